package leaks

import (
	"fmt"
	"math"
	"time"
)

// minSnapshots is how many snapshots it takes to tell whether a number grows: the
// first two tell which goroutines last, each other one whether there are more.
const minSnapshots = 4

// judge makes a Site of what was seen of one.
func (w *Watch) judge(s *site) Site {
	n := &s.now
	last := len(w.monos) - 1
	grow(&s.counts, last)
	out := Site{
		Created: s.created, Start: n.start,
		Count: n.count, Counts: s.counts, New: s.new, Gone: s.gone,
		Unmoved: n.unmoved, Leaked: n.leaked, Forever: n.forever, Stuck: n.top.stuck, Unreferenced: n.unreferenced,
		Oldest: n.oldest, Waiting: n.waiting,
		States: n.states, Stack: n.stack, GoIDs: n.top.goids,
	}
	if n.top.stack != 0 {
		out.StackCount = n.top.count
	}
	if p := w.report.Period; p > 0 {
		out.PerMinute = math.Round(10*float64(out.Net())*float64(time.Minute)/float64(p)) / 10
	}
	suspect := func(g Grade, format string, args ...any) {
		out.Grade = max(out.Grade, g)
		out.Evidence = append(out.Evidence, fmt.Sprintf(format, args...))
	}
	if n.leaked > 0 {
		suspect(Leaked, "%s leaked: the runtime found that nothing which could wake %s is in reach", are(n.leaked), them(n.leaked))
	}
	if n.forever > 0 {
		suspect(Forever, "%s blocked for ever: on a nil channel or a select without cases", are(n.forever))
	}
	if t := s.trend(last); t.growing() {
		suspect(Growing, "the number of those that last rose in %d of %d intervals: %d came, %s went away", t.rises, t.intervals, t.in, none(t.out))
	}
	if s.stuck() {
		suspect(Stuck, "%d have been in the same wait, with the same stack, for at least %s, and none has moved; a pool that is idle looks like this too", n.top.stuck, StuckTime)
	}
	if out.Grade != None && n.unreferenced > 0 {
		out.Evidence = append(out.Evidence, fmt.Sprintf("no other goroutine's stack and no variable refers to what %d of them wait on; the heap is not searched", n.unreferenced))
	}
	return out
}

// trend is how the number of the goroutines that last has changed.
type trend struct {
	in, out   int // how many came to last, and how many of those that did went away
	intervals int
	rises     int  // in how many intervals the number rose
	lately    bool // it rose in the later half of them, rounded down
}

func (s *site) trend(last int) trend {
	t := trend{intervals: max(0, last-1)}
	grow(&s.in, last)
	grow(&s.out, last)
	for i := 2; i <= last; i++ {
		t.in += s.in[i]
		t.out += s.out[i]
		if s.in[i] > s.out[i] {
			t.rises++
			t.lately = t.lately || i-1 > t.intervals-t.intervals/2
		}
	}
	return t
}

// growing says whether the site grows as a leak does: see the package's comment.
// A number that in and out goroutines change at random is spread by the root of
// in+out; when none goes away, that asks for four that came.
func (t *trend) growing() bool {
	net := t.in - t.out
	return net*net >= 4*(t.in+t.out) && t.out <= t.in/4 &&
		t.rises >= max(2, (t.intervals+1)/2) && t.lately
}

// stuck says whether there are many and not one has moved, or was seen to end.
func (s *site) stuck() bool {
	return s.now.top.stuck >= StuckCount && s.moves == 0 && s.gone == 0
}

func are(n int) string {
	if n == 1 {
		return "1 is"
	}
	return fmt.Sprintf("%d are", n)
}

func them(n int) string {
	if n == 1 {
		return "it"
	}
	return "them"
}

func none(n int) string {
	if n == 0 {
		return "none"
	}
	return fmt.Sprint(n)
}
