package gotrace

// noteCategory is the category of the log events that notes become.
const noteCategory = "gopherscope"

// remark is a note that waits for a goroutine that runs.
type remark struct {
	time int64
	text string
}

// Note writes a remark of the recorder about a moment, CLOCK_MONOTONIC in ns, as a log event such as
// runtime/trace.Log makes, in no task. The format has those only of a goroutine that runs:
// it is one that runs at that time, or the next that does. Where none does any more, the note
// is left out. It comes after the events that were before it.
func (w *Writer) Note(time int64, text string) error {
	w.begin(time)
	w.remarks = append(w.remarks, remark{time, text})
	for _, m := range w.sortedThreads() {
		// What has happened to the goroutine and is not written yet belongs before the note.
		if m.g != nil && m.p != nil && m.g.status == goRunning && m.leaving == 0 && m.parting.time == 0 && m.coming.g == nil {
			w.remark(m)
			break
		}
	}
	return w.failed()
}

// remark writes the notes that wait, on a thread with a P on which a goroutine runs.
func (w *Writer) remark(m *thread) {
	for _, r := range w.remarks {
		w.emit(m, w.clock(r.time), evUserLog, 0, w.str(noteCategory), w.str(r.text), 0)
	}
	w.remarks = nil
}
