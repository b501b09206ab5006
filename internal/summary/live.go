package summary

// Created is how many goroutines were created in the interval.
func (s *Summary) Created() uint64 { return s.created }

// WaitingFor is how many goroutines wait for a reason now.
func (s *Summary) WaitingFor(reason string) int {
	if n := s.waiting[reason]; n != nil {
		return *n
	}
	return 0
}

// EachBlocked passes the waits that ended in the interval to visit, reason by reason, in no
// order. They change with the Summary.
func (s *Summary) EachBlocked(visit func(reason string, d *Durations)) {
	for reason, d := range s.blocked {
		visit(reason, d)
	}
}

// ResetFigures begins a new interval for the single figures alone ([Summary.Sched],
// [Summary.Blocked], [Summary.Created]). It costs the same however many goroutines there
// are, so it can be called many times a second. A Page must not be asked for after it: its parts would be
// of different intervals.
func (s *Summary) ResetFigures() {
	s.created = 0
	s.sched.reset()
	for _, d := range s.blocked {
		d.reset()
	}
}

// count counts the goroutine for what it waits for now. It is called at each change of its
// state or its wait.
func (s *Summary) count(g *goroutine) {
	if g.counted != nil {
		*g.counted--
		g.counted = nil
	}
	if g.state == Waiting && g.wait != nil {
		g.counted = g.wait.waiting
		*g.counted++
	}
}

// Window has the durations of the last few intervals: of one that slides.
type Window struct {
	slots []Durations
	at    int // the newest
	all   Durations
}

// NewWindow returns a Window over so many intervals, all of them empty.
func NewWindow(intervals int) *Window { return &Window{slots: make([]Durations, intervals)} }

// Next forgets the oldest interval and begins a new one.
func (w *Window) Next() {
	w.at = (w.at + 1) % len(w.slots)
	w.slots[w.at].reset()
}

// Add adds durations to the newest interval. They are copied.
func (w *Window) Add(d *Durations) { w.slots[w.at].merge(d) }

// Durations are those of all its intervals. The result is valid until the next call.
func (w *Window) Durations() *Durations {
	w.all.reset()
	for i := range w.slots {
		w.all.merge(&w.slots[i])
	}
	return &w.all
}
