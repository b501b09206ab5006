package perfetto

// Note writes a remark of the recorder about a moment, CLOCK_MONOTONIC in ns, as an instant on the
// track of the trace; detail may be empty. It comes after the events that were before
// it.
func (w *Writer) Note(time int64, cause, detail string) error {
	w.pass(time)
	w.slice(typeInstant, w.trace.uuid, cause, "note")
	w.noteText("detail", detail)
	w.emit(w.trace.at(time))
	return w.seq.err
}
