package tui

import (
	"time"

	"gopherscope/internal/dump"
	"gopherscope/internal/goruntime"
)

// Process is what does not change of the process that is shown.
type Process struct {
	PID       int
	File      string // the recording, if it is one; the Model escapes it
	Command   string // as it is; the Model escapes it
	GoVersion string
	Procs     int // GOMAXPROCS; 0 if unknown
}

// Want is what a Model needs of the next Sample.
type Want struct {
	// Stacks asks for stacks that are new, as often as the Host finds cheap enough.
	Stacks bool
	// Watch is the goroutine whose transitions are shown; 0 if none is.
	Watch uint64
	// At is, of a recording, which moment is shown: CLOCK_MONOTONIC, ns.
	At int64
}

// Sample is what is known of a process at one moment. It is not changed after it
// was made.
type Sample struct {
	Dump      *dump.Dump    // the states
	Stacks    *dump.Dump    // the last that has stacks, Dump or an older one; nil if there is none
	TargetCPU time.Duration // CPU time that the process has used; 0 if unknown
	OwnCPU    time.Duration // CPU time that this program has used; 0 if unknown
	Rates     *Rates        // since the Sample before; nil without an engine
	Notes     []string      // messages of the engine since the Sample before
	Position  *Position     // nil of a process that lives
}

// Position is where a Sample is in a recording, and what only a recording can tell.
type Position struct {
	Recorded
	At      int64         // CLOCK_MONOTONIC, ns
	Over    time.Duration // before At, which Rates, Ran and CPU are of
	Ran     []bool        // of Dump.Goroutines: it ran meanwhile, or is new
	CPU     time.Duration // that the process used, at the rate of the block of the recording; 0 if unknown
	Unknown int           // goroutines that are left out: nothing was heard of them since the trace paused
	Paused  int64         // the trace paused at At, and did since then: all else is as it was then; 0 if it did not
}

// EndedError is the error of a Sample when there will never be another one.
type EndedError struct {
	Why string // in words for people: "the process has exited"
}

// Error is the words.
func (e *EndedError) Error() string { return e.Why }

// Host is what a Model asks for that touches a system. Its methods may block, and are
// called from goroutines of their own: Sample never twice at a time, the
// engine's neither.
type Host interface {
	// Sample reads the process.
	Sample(w Want) (*Sample, error)
	// StartEngine attaches an engine: Samples have Rates from then on.
	StartEngine() error
	// StopEngine detaches it, and returns when that is done.
	StopEngine() error
	// EngineEnded is closed when the engine is not attached any more, asked for or not.
	EngineEnded() <-chan struct{}
	// Save writes text to a new file, whose name has the time in it, and returns
	// its path.
	Save(text string, when time.Time) (path string, err error)
}

// stackIDs has for each goroutine of the Sample the stack that it had in s.Stacks, and
// whether it has not run since, so that it still has it.
func (s *Sample) stackIDs() (ids []dump.StackID, current []bool) {
	ids, current = make([]dump.StackID, len(s.Dump.Goroutines)), make([]bool, len(s.Dump.Goroutines))
	if s.Stacks == nil {
		return ids, current
	}
	old := s.Stacks.Goroutines
	at := 0
	for i := range s.Dump.Goroutines {
		g := &s.Dump.Goroutines[i]
		for at < len(old) && old[at].ID < g.ID {
			at++
		}
		if at == len(old) || old[at].ID != g.ID {
			continue
		}
		o := &old[at]
		ids[i] = o.Stack
		// A system call can be left and entered again without a trace in Seq.
		moves := g.Status == goruntime.Running || g.Status == goruntime.Syscall
		current[i] = s.Stacks == s.Dump || !moves && o.Seq == g.Seq && o.Status == g.Status && o.Reason == g.Reason
	}
	return ids, current
}

// find is the index in d of a goroutine; -1 if d does not have it.
func find(d *dump.Dump, id uint64) int {
	lo, hi := 0, len(d.Goroutines)
	for lo < hi {
		if mid := (lo + hi) / 2; d.Goroutines[mid].ID < id {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(d.Goroutines) && d.Goroutines[lo].ID == id {
		return lo
	}
	return -1
}

// moment is what a history keeps of a goroutine.
type moment struct {
	id     uint64
	status goruntime.Status
	reason uint8
	seq    uint8
	wait   bool // reason is of meaning
}

// past is what a history keeps of a Sample.
type past struct {
	when    time.Time
	moments []moment // in ascending order of id
}

// history is what the goroutines did in the last Samples.
type history struct {
	samples []past // the oldest first
	reasons []string
	entries int
}

// Bounds on a history: 60 Samples, but at most 16 MB.
const (
	historySamples = 60
	historyEntries = 1 << 20
)

// add takes a Sample, and returns which of its goroutines have run since the one
// before: that are new, run, or have stopped running in between.
func (h *history) add(d *dump.Dump) (ran []bool) {
	now := past{when: d.Time}
	for len(h.samples) > 0 && (len(h.samples) >= historySamples || h.entries+len(d.Goroutines) > historyEntries && len(h.samples) > 1) {
		old := h.samples[0]
		now.moments = old.moments[:0] // its memory serves again
		h.entries -= len(old.moments)
		h.samples = append(h.samples[:0], h.samples[1:]...)
	}
	ran = make([]bool, len(d.Goroutines))
	var before []moment
	if n := len(h.samples); n > 0 {
		before = h.samples[n-1].moments
	}
	for i := range d.Goroutines {
		g := &d.Goroutines[i]
		now.moments = append(now.moments, moment{
			id: g.ID, status: g.Status, reason: g.Reason, seq: g.Seq,
			wait: g.Status == goruntime.Waiting || g.Status == goruntime.Leaked,
		})
		for len(before) > 0 && before[0].id < g.ID {
			before = before[1:]
		}
		same := len(before) > 0 && before[0].id == g.ID && before[0].seq == g.Seq
		ran[i] = (!same || g.Status == goruntime.Running) && len(h.samples) > 0
	}
	h.samples = append(h.samples, now)
	h.entries += len(now.moments)
	h.reasons = d.Reasons
	return ran
}

// stay is how long a goroutine was seen in one state.
type stay struct {
	from, to time.Time // of the first and the last Sample
	samples  int
	status   goruntime.Status
	reason   string
	ran      bool // it ran in between: it left the state and came back
	absent   bool // it was not there
}

// of is what a goroutine did, the newest first.
func (h *history) of(id uint64) []stay {
	var out []stay
	var last moment
	for i := len(h.samples) - 1; i >= 0; i-- {
		p := &h.samples[i]
		m, ok := p.find(id)
		if n := len(out); n > 0 && out[n-1].absent == !ok && (!ok || last.status == m.status && last.reason == m.reason) {
			s := &out[n-1]
			s.from, s.samples = p.when, s.samples+1
			s.ran = s.ran || ok && last.seq != m.seq
		} else {
			one := stay{from: p.when, to: p.when, samples: 1, status: m.status, absent: !ok}
			if ok && m.wait && int(m.reason) < len(h.reasons) {
				one.reason = h.reasons[m.reason]
			}
			out = append(out, one)
		}
		last = m
	}
	return out
}

func (p *past) find(id uint64) (moment, bool) {
	lo, hi := 0, len(p.moments)
	for lo < hi {
		if mid := (lo + hi) / 2; p.moments[mid].id < id {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(p.moments) && p.moments[lo].id == id {
		return p.moments[lo], true
	}
	return moment{}, false
}
