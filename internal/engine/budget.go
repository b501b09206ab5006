package engine

import "time"

// Budget keeps the cost of a trace below a share of the CPU time that the target uses: it
// says when to leave out stacks, when to pause, and when to go on. What the target uses
// earns, what the trace costs spends. With nothing left the trace first does without stacks,
// if that is where much of the cost comes from; otherwise it pauses, until enough has been
// earned for it to be worth while. A Budget is a pure function of what it is told.
type Budget struct {
	share  float64  // of the target's CPU time
	stacks bool     // the trace takes stacks, and can do without
	spared bool     // it would, but for the budget
	credit float64  // ns of cost that may still be caused
	begun  bool     // there was a Step
	first  Spending // at the first Step
	start  int64    // the moment of it
	last   Spending // at the last Step
	now    int64
	paused int64    // since then; 0 when tracing
	rate   float64  // ns earned in a ns, lately
	spends float64  // ns spent in a ns, in the last step; negative: not known yet
	traced float64  // the same, in the last step that was not in a pause
	calm   Spending // when stacks were left out, or at the end of the last pause or trial
	since  int64    // that moment
}

// Spending is what a trace and its target have come to since the trace began.
type Spending struct {
	Cost   time.Duration // of the trace, in CPU time of the target
	Stacks time.Duration // the part of it that went into stacks
	Spared time.Duration // what the stacks that were left out would have cost
	CPU    time.Duration // that the target used, the cost included
}

const (
	// window is the time over which the share is kept: what was earned longer ago is
	// not spent any more.
	window = time.Second
	// atLeast and atMost bound a pause. To pause and go on takes some milliseconds; and a
	// target that is at rest, and so earns nothing, costs nothing either.
	atLeast, atMost = 100 * time.Millisecond, 5 * time.Second
	// LongestPause is how long a pause is until its end is told, with the time to notice it.
	LongestPause = atMost + time.Second
	// ripe is how much a pause earns at most before it ends, as the time in which that is earned. Each
	// gap leaves states unknown, so few and long pauses are better; but a short trace is to have
	// more than one piece. So it is less in the beginning: a part, youth, of the time since the trace began.
	ripe  = window / 4
	youth = 16
	// soonest and latest bound the time to the next step.
	soonest, latest = 5 * time.Millisecond, 50 * time.Millisecond
	// tooSoon is how little time after the step before nothing can be judged by: in it the
	// target may have got no CPU at all. The next step takes it in.
	tooSoon = soonest / 2
	// loan is the time whose earnings may be spent before they are there. So a trace that
	// costs hardly more than it may in the beginning does not begin with a pause.
	loan = 2 * soonest
	// trifle is a debt that no pause is worth: to pause costs more.
	trifle = 50 * time.Microsecond
	// worthwhile is the part of the cost from which on it helps to leave out stacks. Where
	// it is smaller, as at a uprobe whose trap costs ten times as much as a stack, the trace
	// would pause nearly as often and have no stacks besides.
	worthwhile = 0.1
	// trial is for how long the stacks would have to have been cheap enough, by a margin,
	// before they are taken again.
	trial  = 10 * time.Second
	margin = 0.8
)

// Verdict is what is to be done with a trace.
type Verdict int

// The verdicts.
const (
	GoOn       Verdict = iota // as it is
	DropStacks                // now: go on without
	TakeStacks                // now: go on with them again
	Pause                     // now
	Resume                    // now
	GiveUp                    // no pause would be long enough
)

// NewBudget makes a budget of a share, from 0 to 1, for a trace that takes stacks it can do
// without, or does not. With a share of 1 and more there is none.
func NewBudget(share float64, stacks bool) *Budget {
	return &Budget{share: share, stacks: stacks, spends: -1}
}

// Step takes what the trace has come to at the moment now (CLOCK_MONOTONIC, ns), and says
// what is to be done. It is to be called again after Next, also in a pause. The caller must
// do as it says.
func (b *Budget) Step(now int64, s Spending) Verdict {
	spent, earned, elapsed := float64(s.Cost-b.last.Cost), b.share*float64(s.CPU-b.last.CPU), float64(now-b.now)
	onStacks := float64(s.Stacks - b.last.Stacks)
	if !b.begun {
		b.begun, b.first, b.start, b.last, b.now = true, s, now, s, now
		return GoOn
	}
	if b.share >= 1 || elapsed < float64(tooSoon) {
		return GoOn
	}
	b.last, b.now = s, now
	if b.rate == 0 {
		b.rate = earned / elapsed
	}
	b.rate += (earned/elapsed - b.rate) * min(1, elapsed/float64(window))
	b.credit = min(b.credit+earned-spent, b.rate*float64(window)/2)
	if b.paused != 0 {
		return b.pausing()
	}
	b.spends = spent / elapsed
	b.traced = b.spends
	switch {
	case b.credit >= -max(b.rate*float64(loan), float64(trifle)):
		return b.tracing()
	case b.spared && spent <= earned:
		return GoOn // to leave out the stacks was enough: what was overspent comes in again
	case b.stacks && !b.spared && onStacks >= worthwhile*spent:
		b.spared, b.spends = true, -1
		b.settle()
		return DropStacks
	case b.hopeless(earned / elapsed):
		return GiveUp
	}
	b.paused = now
	return Pause
}

// hopeless says whether the shortest time of tracing costs more than the longest pause earns.
// It is judged by what a moment costs, not by a debt: this process may have got no CPU for
// long. And by the most that the target earned in a ns, in the last moment, lately, or since
// the trace began: it may have got no CPU in the last moment, or have rested before.
func (b *Budget) hopeless(earns float64) bool {
	elapsed := float64(b.now - b.start)
	if elapsed < float64(window) {
		return false
	}
	earns = max(earns, b.rate, b.share*float64(b.last.CPU-b.first.CPU)/elapsed)
	return earns > 0 && b.spends*float64(soonest) > earns*float64(atMost)
}

// pausing is Step's verdict in a pause.
func (b *Budget) pausing() Verdict {
	waited := time.Duration(b.now - b.paused)
	enough := b.rate * float64(min(ripe, time.Duration(b.now-b.start)/youth))
	if waited < atLeast || b.credit < enough && waited < atMost {
		return GoOn
	}
	b.paused, b.spends = 0, -1
	b.credit = max(0, b.credit)
	b.settle()
	return Resume
}

// tracing is Step's verdict while there is credit: to take stacks again where they would have
// been cheap enough for long.
func (b *Budget) tracing() Verdict {
	if !b.spared || b.now-b.since < int64(trial) {
		return GoOn
	}
	would := b.last.Cost - b.calm.Cost + b.last.Spared - b.calm.Spared
	allowed := margin * b.share * float64(b.last.CPU-b.calm.CPU)
	b.settle()
	if float64(would) > allowed {
		return GoOn
	}
	b.spared, b.spends = false, -1
	return TakeStacks
}

// settle begins the time that tracing looks at.
func (b *Budget) settle() { b.calm, b.since = b.last, b.now }

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

// Reserve is for how long the trace could go on without a Step and spend no more than half of
// what is left, if it costs what it did when it was last looked at.
func (b *Budget) Reserve() time.Duration {
	dear := b.traced - b.rate
	if b.share >= 1 || dear <= 0 {
		return window
	}
	return time.Duration(min(float64(window), max(0, b.credit)/2/dear))
}
