package probes

import (
	"gopherscope/internal/event"
	"gopherscope/internal/gobinary"
	"gopherscope/internal/goid"
	"gopherscope/internal/goruntime"
)

// Sequencer turns records into events. It knows the sites and the binary, and
// the last status of every goroutine, which decides about the records that may
// not be a change at all:
//
//   - Syscall comes again when the kernel restarts a call or a signal
//     handler returns into the runtime's code around it. It is dropped when the
//     goroutine already is in that state, or entered it by a Change: what the runtime enters
//     by itself, C code and the sleep on a note, it also leaves by a Change.
//   - Attempted precedes a compare-and-swap that another thread can win, and
//     then reports itself. It is dropped unless the goroutine is in the state
//     that it leaves.
//   - Return comes when the goroutine's memory was not readable. It is the end of the call
//     that its thread has entered last, if the stack pointer is the same: a signal handler,
//     whose calls come in between, is on another stack. It is dropped if there is none.
//
// Every other record is a change, and is passed on even when it contradicts the
// last status: gstate counts that as a violation.
type Sequencer struct {
	sites   []Site
	reasons []string
	fake    []bool // by the number of the reason: goruntime.IsFakeWait
	bin     *gobinary.File
	last    map[uint32]*statuses      // by process
	tgid    uint32                    // the process of the last record, and
	current *statuses                 // its goroutines: mostly there is only one
	calls   goid.Map[call]            // the last system call that was entered, by thread
	places  map[uint64]event.Location // by linked pc of a go statement
	starts  map[uint64]event.Location // by linked start pc
	ev      event.Event
}

// statuses are the last statuses of one process's goroutines, by goid.
type statuses = goid.Map[goruntime.Status]

// within is the status of a goroutine that is in Syscall by a Change; no status of the runtime's.
const within goruntime.Status = 0x80

// call is a system call as a thread has entered it.
type call struct {
	goid    uint64
	m       int64
	pid, sp uint32
}

// NewSequencer makes the sequencer of a trace. reasons are the wait reasons of the
// binary, by number.
func NewSequencer(sites []Site, reasons []string, bin *gobinary.File) *Sequencer {
	fake := make([]bool, len(reasons))
	for i, reason := range reasons {
		fake[i] = goruntime.IsFakeWait(reason)
	}
	return &Sequencer{
		sites:   sites,
		reasons: reasons,
		fake:    fake,
		bin:     bin,
		last:    map[uint32]*statuses{},
		places:  map[uint64]event.Location{},
		starts:  map[uint64]event.Location{},
	}
}

// Event makes the event of a record. It returns nil when the record is no
// change. The result is valid until the next call.
func (s *Sequencer) Event(r *Record) *event.Event {
	// Field by field: of a composite literal the compiler makes small stores and then
	// copies 16 bytes at a time, for which the CPU has to wait.
	if r.Kind == Return && !s.returns(r) {
		return nil
	}
	e := &s.ev
	e.Kind, e.Time, e.PID, e.TID, e.GoID, e.M, e.P = event.Transition, r.Time, r.PID, r.TID, r.GoID, r.M, r.P
	e.Fake, e.Reason, e.Waker, e.Stack = false, "", 0, r.Stack
	if e.Birth != nil {
		e.Birth = nil
	}
	switch r.Kind {
	case Exec:
		*e = event.Event{Kind: event.Exec, Time: e.Time, PID: e.PID, TID: e.TID}
		s.Forget(r.PID)
		return e
	case Birth, BirthParked:
		s.birth(e, r)
	default:
		s.change(e, r)
		if !s.happened(e, r.Kind) {
			return nil
		}
	}
	switch last := s.process(r.PID); {
	case e.To == goruntime.Dead || e.To == goruntime.DeadExtra:
		last.Delete(r.GoID)
	case e.To == goruntime.Syscall && r.Kind == Change:
		*last.Put(r.GoID) = within
	default:
		*last.Put(r.GoID) = e.To
	}
	return e
}

func (s *Sequencer) process(tgid uint32) *statuses {
	if s.current != nil && s.tgid == tgid {
		return s.current
	}
	last := s.last[tgid]
	if last == nil {
		last = &statuses{}
		s.last[tgid] = last
	}
	s.tgid, s.current = tgid, last
	return last
}

// Forget drops what is known of the goroutines of a process.
func (s *Sequencer) Forget(tgid uint32) {
	delete(s.last, tgid)
	s.current = nil
}

// ForgetAll drops what is known of all goroutines, for they go on unseen.
func (s *Sequencer) ForgetAll() {
	clear(s.last)
	s.current = nil
	s.calls = goid.Map[call]{}
}

// Seed notes the state of a goroutine that was there before. In a system call it
// is from the change of status on, so an entry into the kernel that comes after
// is the same call's, or its repetition.
func (s *Sequencer) Seed(e *event.Event) {
	last := s.process(e.PID)
	if last.Get(e.GoID) == nil {
		*last.Put(e.GoID) = e.To
	}
}

func (s *Sequencer) birth(e *event.Event, r *Record) {
	site := &s.sites[r.Site]
	e.From, e.To, e.Via = goruntime.Dead, goruntime.Runnable, site.via
	if r.Kind == BirthParked {
		e.To, e.Reason = goruntime.Waiting, "coroutine"
	}
	e.Birth = &event.Birth{Parent: r.Other}
	if r.GoPC != 0 {
		e.Birth.CreatedBy = s.place(r.GoPC)
	}
	if r.StartPC != 0 {
		e.Birth.Start = s.start(r.StartPC)
	}
}

func (s *Sequencer) change(e *event.Event, r *Record) {
	e.From, e.To = r.From, r.To
	e.Waker = r.Other
	reason, fake := "", false
	if int(r.Reason) < len(s.reasons) {
		reason, fake = s.reasons[r.Reason], s.fake[r.Reason]
	}
	if r.Site == NoSite {
		e.Via = event.ViaSyscall
		if e.To == goruntime.Syscall {
			*s.calls.Put(uint64(r.TID)) = call{goid: r.GoID, m: r.M, pid: r.PID, sp: r.SP}
		}
		return
	}
	site := &s.sites[r.Site]
	e.Via = refine(site.via, e, reason)
	if site.lostP && e.From == goruntime.Syscall {
		e.From = goruntime.Running
	}
	if e.To == goruntime.Waiting {
		if site.reason != "" {
			reason, fake = site.reason, goruntime.IsFakeWait(site.reason)
		}
		e.Reason, e.Fake = reason, fake
	}
}

// returns fills in who it is that returns, if it is known.
func (s *Sequencer) returns(r *Record) bool {
	c := s.calls.Get(uint64(r.TID))
	if c == nil || c.pid != r.PID || c.sp != r.SP {
		return false
	}
	r.GoID, r.M = c.goid, c.m
	last := s.process(r.PID).Get(r.GoID)
	return last != nil && *last == r.From
}

// refine tells apart what one function does for several causes.
func refine(via event.Via, e *event.Event, reason string) event.Via {
	switch {
	case via == event.ViaPark && e.From == goruntime.Waiting:
		return event.ViaUnpark
	case via == event.ViaReady && e.Waker == 0 && reason == "sleep":
		return event.ViaTimer
	case via == event.ViaNetpoll && reason == "GC worker (idle)":
		return event.ViaGC
	case via == event.ViaNetpoll && reason != "IO wait" && e.Waker != 0:
		return event.ViaReady // a list of waiters, as at the end of a sweep
	case via == event.ViaNetpoll && reason != "IO wait":
		return event.ViaOther
	}
	return via
}

// happened decides about the records that may not be a change.
func (s *Sequencer) happened(e *event.Event, kind Kind) bool {
	if kind == Change {
		return true
	}
	last := s.process(e.PID).Get(e.GoID)
	if kind == Attempted {
		return last != nil && (*last == e.From || *last == within && e.From == goruntime.Syscall)
	}
	return last == nil || *last != e.To && *last != within
}

// place is the go statement that a linked pc, the return address of newproc,
// belongs to.
func (s *Sequencer) place(pc uint64) event.Location {
	loc, ok := s.places[pc]
	if !ok {
		loc = s.locate(pc - 1)
		s.places[pc] = loc
	}
	return loc
}

// start is the function that a go statement names: the one that a compiler's
// wrapper calls when the linked pc is a wrapper's.
func (s *Sequencer) start(pc uint64) event.Location {
	loc, ok := s.starts[pc]
	if !ok {
		loc = s.locate(s.bin.StartFunc(pc))
		s.starts[pc] = loc
	}
	return loc
}

func (s *Sequencer) locate(pc uint64) event.Location {
	frames := s.bin.Frames(pc)
	// The first goroutine of all is created by assembly code, through a wrapper
	// that no source line stands for.
	if len(frames) == 0 || frames[0].File == "<autogenerated>" {
		return event.Location{}
	}
	return event.Location{Func: frames[0].Func, File: frames[0].File, Line: frames[0].Line}
}
