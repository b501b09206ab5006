package engine

import "time"

// Budget keeps the cost of a trace below a share of the CPU time that the target uses: it
// says when to pause and when to go on. What the target uses earns, what the trace costs
// spends; with nothing left the trace pauses, until enough has been earned for it to be worth
// while. It is a pure function of what it is told.
type Budget struct {
	share  float64 // of the target's CPU time
	credit float64 // ns of cost that may still be caused
	begun  bool
	cost   time.Duration // at the last Step
	cpu    time.Duration
	now    int64
	paused int64   // since then; 0 when tracing
	rate   float64 // ns earned in a ns, lately
	spends float64 // ns spent in a ns, in the last step; negative: not known yet
}

const (
	// window is the time over which the share is kept: what was earned longer ago is
	// not spent any more.
	window = time.Second
	// atLeast and atMost bound a pause. To pause and go on takes some milliseconds; and a
	// target that is at rest, and so earns nothing, costs nothing either.
	atLeast, atMost = 100 * time.Millisecond, 5 * time.Second
	// soonest and latest bound the time to the next step.
	soonest, latest = 5 * time.Millisecond, 50 * time.Millisecond
)

// Verdict is what is to be done with a trace.
type Verdict int

// The verdicts.
const (
	GoOn   Verdict = iota // as it is
	Pause                 // now
	Resume                // now
	GiveUp                // no pause would be long enough
)

// NewBudget makes a budget of a share, from 0 to 1. With 1 and more there is none.
func NewBudget(share float64) *Budget { return &Budget{share: share, spends: -1} }

// Step takes what the trace has cost and what the target has used since the beginning, at
// the moment now (CLOCK_MONOTONIC, ns), and says what is to be done. It is to be called
// again after Next, also in a pause. The caller must do as it says.
func (b *Budget) Step(now int64, cost, cpu time.Duration) Verdict {
	spent, earned, elapsed := float64(cost-b.cost), b.share*float64(cpu-b.cpu), float64(now-b.now)
	first := !b.begun
	b.begun, b.cost, b.cpu, b.now = true, cost, cpu, now
	if b.share >= 1 || first || elapsed <= 0 {
		return GoOn
	}
	if b.rate == 0 {
		b.rate = earned / elapsed
	}
	b.rate += (earned/elapsed - b.rate) * min(1, elapsed/float64(window))
	b.credit = min(b.credit+earned-spent, b.rate*float64(window)/2)
	if b.paused != 0 {
		return b.pausing(now)
	}
	b.spends = spent / elapsed
	switch {
	case b.credit >= 0:
		return GoOn
	case b.rate > 0 && -b.credit > b.rate*float64(atMost):
		return GiveUp
	}
	b.paused = now
	return Pause
}

// pausing is Step's verdict in a pause.
func (b *Budget) pausing(now int64) Verdict {
	waited := time.Duration(now - b.paused)
	if waited < atLeast || b.credit < b.rate*float64(window)/4 && waited < atMost {
		return GoOn
	}
	b.paused, b.spends = 0, -1
	b.credit = max(0, b.credit)
	return Resume
}

// Next is how long to wait until the next Step: the more is spent, the sooner.
func (b *Budget) Next() time.Duration {
	switch {
	case b.share >= 1 || b.paused != 0:
		return latest
	case b.spends < 0:
		return soonest
	case b.spends <= b.rate:
		return latest
	}
	left := time.Duration(b.credit / (b.spends - b.rate) / 2)
	return max(soonest, min(left, latest))
}
