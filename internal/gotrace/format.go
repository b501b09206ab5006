package gotrace

import (
	"encoding/binary"
	"io"
)

// header begins a trace in the format of Go 1.25. Go 1.22 and 1.23 have no clock snapshot,
// which ties the times to the wall clock; Go 1.26 adds only a mark at the end of each
// generation, and is read by fewer programs. Source: internal/trace/version/version.go.
const header = "go 1.25 trace\x00\x00\x00"

// Events and parts of the file by their numbers (internal/trace/tracev2/events.go). The
// arguments of each are in its method of [Writer].
const (
	evEventBatch          = 1
	evStacks              = 2
	evStack               = 3
	evStrings             = 4
	evString              = 5
	evFrequency           = 8
	evProcsChange         = 9
	evProcStart           = 10
	evProcStop            = 11
	evProcSteal           = 12
	evProcStatus          = 13
	evGoCreate            = 14
	evGoCreateSyscall     = 15
	evGoStart             = 16
	evGoDestroy           = 17
	evGoDestroySyscall    = 18
	evGoStop              = 19
	evGoBlock             = 20
	evGoUnblock           = 21
	evGoSyscallBegin      = 22
	evGoSyscallEnd        = 23
	evGoSyscallEndBlocked = 24
	evSTWBegin            = 26
	evSTWEnd              = 27
	evGCActive            = 28
	evGCBegin             = 29
	evGCEnd               = 30
	evGCMarkAssistActive  = 34
	evGCMarkAssistBegin   = 35
	evGCMarkAssistEnd     = 36
	evUserLog             = 44
	evGoSwitch            = 45
	evGoSwitchDestroy     = 46
	evGoCreateBlocked     = 47
	evGoStatusStack       = 48
	evSync                = 50
	evClockSnapshot       = 51
)

// Limits of the readers (internal/trace/tracev2/events.go).
const (
	maxFrames = 128     // of a stack
	maxString = 1 << 10 // bytes of a string
	maxBatch  = 64 << 10
)

// maxEvent is more than any event takes: its number, and six arguments of ten bytes.
const maxEvent = 1 + 6*binary.MaxVarintLen64

// batchSize is how much of a thread's events is kept until it is written. The format allows
// for maxBatch, but a program can have thousands of threads.
const batchSize = 8 << 10

// frequency says that times are in nanoseconds. They are CLOCK_MONOTONIC, as those that the
// runtime writes are (runtime/tracetime.go traceClockNow, in units of 64 ns).
const frequency = 1e9

// baseUnit divides the time at which a batch begins. A reader converts that time to
// float64 and back, which must not change it: a multiple of 1024 is exact up to 2^63.
const baseUnit = 1 << 10

// maxSpan is how long a batch may span, for the same reason: 104 days.
const maxSpan = 1 << 53

// noThread is the M of events that no thread made (internal/trace/event.go NoThread).
const noThread = ^uint64(0)

// The statuses of goroutines and of Ps (internal/trace/tracev2/events.go GoStatus,
// ProcStatus).
const (
	goRunnable = 1
	goRunning  = 2
	goSyscall  = 3
	goWaiting  = 4

	procRunning = 1
	procIdle    = 2
	procSyscall = 3
)

// output is a writer that keeps its first error.
type output struct {
	w   io.Writer
	err error
}

func (o *output) write(b []byte) {
	if o.err != nil {
		return
	}
	_, o.err = o.w.Write(b)
}

// fail lets nothing more be written.
func (o *output) fail(err error) {
	if o.err == nil {
		o.err = err
	}
}

// batch writes a batch: its header and its contents, at most maxBatch.
func (o *output) batch(gen, thread uint64, base int64, data []byte) {
	var head [1 + 4*binary.MaxVarintLen64]byte
	b := append(head[:0], evEventBatch)
	b = binary.AppendUvarint(b, gen)
	b = binary.AppendUvarint(b, thread)
	b = binary.AppendUvarint(b, uint64(base))
	b = binary.AppendUvarint(b, uint64(len(data)))
	o.write(b)
	o.write(data)
}

// emit adds an event to a thread's batch, at a time by CLOCK_MONOTONIC that can be in the
// past, as long as the thread has no later event: then it is at that one's time. It returns
// the time.
func (w *Writer) emit(m *thread, t int64, number byte, args ...uint64) int64 {
	t = max(t, m.last, w.genStart)
	w.now = max(w.now, t)
	if len(m.buf)+maxEvent > batchSize || t-m.base >= maxSpan {
		w.flush(m)
	}
	if len(m.buf) == 0 {
		m.base = t &^ (baseUnit - 1)
		m.coded = m.base
	}
	before := len(m.buf)
	m.buf = append(m.buf, number)
	m.buf = binary.AppendUvarint(m.buf, uint64(t-m.coded))
	for _, a := range args {
		m.buf = binary.AppendUvarint(m.buf, a)
	}
	w.coded += int64(len(m.buf) - before)
	m.last, m.coded = t, t
	return t
}

// emitG is emit of an event that changes a goroutine: after its last change, which can be
// of another thread.
func (w *Writer) emitG(m *thread, g *goroutine, t int64, number byte, args ...uint64) {
	g.last = w.emit(m, max(t, g.last+1), number, args...)
}

// emitP is the same for a P.
func (w *Writer) emitP(m *thread, p *proc, t int64, number byte, args ...uint64) {
	p.last = w.emit(m, max(t, p.last+1), number, args...)
}

// emitGC is the same for the garbage collector.
func (w *Writer) emitGC(m *thread, t int64, number byte, args ...uint64) {
	w.gcLast = w.emit(m, max(t, w.gcLast+1), number, args...)
}

// flush writes a thread's batch.
func (w *Writer) flush(m *thread) {
	if len(m.buf) > 0 {
		w.out.batch(w.gen, m.id, m.base, m.buf)
		m.buf = m.buf[:0]
	}
}
