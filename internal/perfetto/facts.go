package perfetto

import (
	"path"
	"strings"

	"gopherscope/internal/engine"
)

// facts begins the track of the trace itself: one slice with what is known of the process
// and, at its end, of what was lost and what the trace cost.
func (w *Writer) facts() {
	name := "gopherscope trace"
	if w.info.Exe != "" {
		name += " of " + path.Base(w.info.Exe)
	}
	w.trace.uuid = w.describe(descriptor{name: name})
	w.slice(typeBegin, w.trace.uuid, "trace", "trace")
	w.noteText("engine", w.info.Engine)
	w.noteText("go_version", w.info.GoVersion)
	w.noteText("arch", w.info.Arch)
	if w.info.PID != 0 {
		w.noteInt("pid", int64(w.info.PID))
	}
	w.noteText("exe", w.info.Exe)
	w.noteText("command", strings.Join(w.info.Command, " "))
	if w.info.Procs != 0 {
		w.noteInt("gomaxprocs", int64(w.info.Procs))
	}
	w.emit(w.trace.at(w.info.Begin))
}

// endTrace ends it. The annotations of a slice's end are joined to those of its begin.
func (w *Writer) endTrace() {
	w.slice(typeEnd, w.trace.uuid, "", "")
	w.noteUint("events", w.events)
	if w.totals != nil {
		w.noteLost(&w.totals.Lost)
		w.noteCost(&w.totals.Cost)
		if cpu := w.totals.TargetCPU; cpu > 0 {
			w.noteInt("target_cpu_ns", int64(cpu))
		}
	}
	w.emit(w.trace.at(w.end))
}

// noteLost has the causes by the names of the JSON summary.
func (w *Writer) noteLost(l *engine.Lost) {
	n := w.beginNote("lost")
	for _, c := range [...]struct {
		name string
		n    uint64
	}{
		{"total", l.Total()}, {"ring_full", l.RingFull}, {"read_fault", l.ReadFault}, {"recursion", l.Recursion},
		{"processes", l.Processes}, {"no_ring", l.NoRing}, {"corrupt", l.Corrupt},
	} {
		w.entry(c.name).uint(annotationUint, c.n)
		n.sub(annotationEntries, w.inner)
	}
	w.endNote()
}

// noteCost has the keys of the JSON summary.
func (w *Writer) noteCost(c *engine.Cost) {
	n := w.beginNote("cost")
	for _, k := range [...]struct {
		name string
		n    int64
	}{
		{"total_ns", int64(c.Total)}, {"uprobe_hits", int64(c.Hits.Uprobes)}, {"syscall_hits", int64(c.Hits.Syscalls)},
		{"inline_hits", int64(c.Hits.Inline)}, {"ns_per_uprobe_hit", int64(c.NsPerUprobe)}, {"ns_per_syscall_hit", int64(c.NsPerSyscall)},
	} {
		w.entry(k.name).int(annotationInt, k.n)
		n.sub(annotationEntries, w.inner)
	}
	m := w.entry("ns_per_inline_hit")
	m.double(annotationDouble, c.NsPerInline)
	n.sub(annotationEntries, w.inner)
	w.endNote()
}

// entry begins a member of the annotation that is being made.
func (w *Writer) entry(name string) *message {
	w.inner.reset()
	w.inner.uint(annotationNameIID, w.seq.intern(&w.seq.noteNames, name))
	return &w.inner
}
