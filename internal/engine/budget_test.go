package engine

import (
	"testing"
	"time"
)

// simulation is a target and its trace in simulated time. While it is traced it spends
// the share dear of its CPU time on that.
type simulation struct {
	cpus, dear float64
	now        int64
	cost, cpu  time.Duration
	traced     time.Duration
	pauses     int
	worst      float64 // share of the cost in a second

	// with stacks, it spends another share on those
	walks          float64
	spares         bool
	stacks, spared time.Duration
	turns          int // how often stacks were left out or taken again
}

// spending is what the trace has come to by now.
func (s *simulation) spending() Spending {
	return Spending{Cost: s.cost, Stacks: s.stacks, Spared: s.spared, CPU: s.cpu}
}

// run lets the budget decide for so long; it returns false when that gave up.
func (s *simulation) run(b *Budget, d time.Duration) bool {
	tracing := b.paused == 0
	type moment struct {
		now       int64
		cost, cpu time.Duration
	}
	var past []moment
	for end := s.now + int64(d); s.now < end; {
		step := b.Next()
		s.now += int64(step)
		used := time.Duration(float64(step) * s.cpus)
		s.cpu += used
		if tracing {
			walked := time.Duration(float64(used) * s.walks)
			if s.cost += time.Duration(float64(used) * s.dear); s.spares {
				s.spared += walked
			} else {
				s.cost += walked
				s.stacks += walked
			}
			s.traced += step
		}
		past = append(past, moment{s.now, s.cost, s.cpu})
		for past[0].now < s.now-int64(time.Second) {
			past = past[1:]
		}
		if s.now-past[0].now > int64(9*time.Second/10) && s.cpu > past[0].cpu {
			s.worst = max(s.worst, float64(s.cost-past[0].cost)/float64(s.cpu-past[0].cpu))
		}
		switch b.Step(s.now, s.spending()) {
		case Pause:
			tracing = false
			s.pauses++
		case Resume:
			tracing = true
		case DropStacks, TakeStacks:
			s.spares = !s.spares
			s.turns++
		case GiveUp:
			return false
		}
	}
	return true
}

func TestBudget(t *testing.T) {
	for _, tt := range []struct {
		name        string
		share       float64
		cpus, dear  float64
		gaveUp      bool
		least, most float64 // of the time that is traced
		pauses      bool
	}{
		{"cheap enough", 0.05, 2, 0.03, false, 1, 1, false},
		{"twice too dear", 0.05, 2, 0.10, false, 0.35, 0.55, true},
		{"a program that melts", 0.05, 2, 0.95, false, 0.02, 0.08, true},
		{"and a tight budget", 0.01, 16, 0.95, false, 0.004, 0.02, true},
		{"not even a moment", 0.0001, 2, 0.95, true, 0, 1, false},
		{"no budget", 1, 2, 0.95, false, 1, 1, false},
		{"at rest", 0.05, 0, 0, false, 1, 1, false},
		{"nearly at rest, but dear", 0.05, 0.001, 0.9, false, 0.02, 0.2, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := simulation{cpus: tt.cpus, dear: tt.dear, now: 1}
			ok := s.run(NewBudget(tt.share, false), time.Minute)
			if ok == tt.gaveUp {
				t.Fatalf("gave up: %v, want %v, after %v of cost in %v", !ok, tt.gaveUp, s.cost, s.cpu)
			}
			if tt.gaveUp {
				return
			}
			traced := s.traced.Seconds() / 60
			if traced < tt.least || traced > tt.most+0.01 || (s.pauses > 0) != tt.pauses {
				t.Errorf("traced %.3f of the time with %d pauses; want %v to %v, pauses %v", traced, s.pauses, tt.least, tt.most, tt.pauses)
			}
			if s.cpu > 0 && s.cost.Seconds() > tt.share*s.cpu.Seconds()*1.02 {
				t.Errorf("cost %v of %v: more than a share of %v", s.cost, s.cpu, tt.share)
			}
			if s.worst > 2*tt.share {
				t.Errorf("%.3f in the worst second, the budget is %v", s.worst, tt.share)
			}
		})
	}
}

// A trace of a second is in several pieces, of a program that is far too dear for more, and keeps
// to its share. Later the pauses are fewer and longer.
func TestBudgetBeginning(t *testing.T) {
	for _, share := range []float64{0.05, 0.1, 0.25} {
		b := NewBudget(share, false)
		s := simulation{cpus: 2, dear: 0.9, now: 1}
		s.run(b, time.Second)
		pauses, most := s.pauses, 1.1*share
		if cost := s.cost.Seconds() / s.cpu.Seconds(); pauses < 6 || cost > most || cost < share/2 {
			t.Errorf("%v: %d pauses in the first second, cost %.3f", share, pauses, cost)
		}
		s.run(b, 9*time.Second)
		if each := float64(s.pauses-pauses) / 9; each > 5 || s.worst > 1.5*share {
			t.Errorf("%v: then %.1f pauses a second, %.3f in the worst second", share, each, s.worst)
		}
	}
}

// A trace that costs next to nothing, or just about what it may, does not pause in the beginning, where the steps
// can be some microseconds long and the target may have got no CPU in them.
func TestBudgetFirstSteps(t *testing.T) {
	b := NewBudget(0.25, true)
	now, spent := int64(1), Spending{}
	for i, step := range []struct{ elapsed, cost, cpu time.Duration }{
		{0, 0, 0},
		{50 * time.Microsecond, time.Microsecond, 0},
		{300 * time.Microsecond, 60 * time.Microsecond, 200 * time.Microsecond},
		{5 * time.Millisecond, 700 * time.Microsecond, 2500 * time.Microsecond},
		{100 * time.Microsecond, 20 * time.Microsecond, 0},
		{50 * time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond},
	} {
		now += int64(step.elapsed)
		spent.Cost += step.cost
		spent.CPU += step.cpu
		if verdict := b.Step(now, spent); verdict != GoOn {
			t.Fatalf("step %d, %+v: verdict %d", i, step, verdict)
		}
	}
	now += int64(50 * time.Millisecond) // much too dear now
	spent.Cost += 20 * time.Millisecond
	spent.CPU += 20 * time.Millisecond
	if verdict := b.Step(now, spent); verdict != Pause {
		t.Errorf("verdict %d of a trace that costs all there is", verdict)
	}
}

// A target that got hardly any CPU in a moment is not one that a moment of tracing is too dear
// for: neither when the trace begins, nor after a rest.
func TestBudgetStarved(t *testing.T) {
	for _, before := range []time.Duration{soonest, time.Minute} {
		b := NewBudget(0.01, false)
		s := simulation{cpus: 1e-5, dear: 0.001, now: 1}
		s.run(b, before)
		s.cpus, s.dear = 1, 1
		if !s.run(b, time.Second) {
			t.Errorf("gave up of a target that began to work after %v", before)
		}
		if s.pauses == 0 {
			t.Error("no pause")
		}
	}
}

// A trace that was cheap and becomes dear is paused before a second is over.
func TestBudgetTurns(t *testing.T) {
	b := NewBudget(0.05, false)
	s := simulation{cpus: 2, dear: 0.001, now: 1}
	s.run(b, 10*time.Second)
	if s.pauses != 0 {
		t.Fatalf("%d pauses of a cheap trace", s.pauses)
	}
	s.dear = 0.9
	before, used := s.cost, s.cpu
	s.run(b, time.Second)
	if share := (s.cost - before).Seconds() / (s.cpu - used).Seconds(); s.pauses == 0 || share > 0.1 {
		t.Errorf("%d pauses, %.3f of the second after the turn", s.pauses, share)
	}
}

// Stacks are left out before the trace pauses, where that helps, and come back when there has
// been room for them for long.
func TestBudgetStacks(t *testing.T) {
	for _, tt := range []struct {
		name        string
		dear, walks float64
		spares      bool
		pauses      bool
		turns       int
	}{
		{"cheap enough", 0.01, 0.02, false, false, 0},
		{"too dear with stacks only", 0.02, 0.06, true, false, 1},
		{"just fits, without a margin", 0.02, 0.025, false, false, 0},
		{"too dear with and without", 0.1, 0.1, true, true, 1},
		{"stacks are not what costs", 0.9, 0.05, false, true, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := simulation{cpus: 2, dear: tt.dear, walks: tt.walks, now: 1}
			b := NewBudget(0.05, true)
			if !s.run(b, time.Minute) {
				t.Fatal("gave up")
			}
			if s.spares != tt.spares || (s.pauses > 0) != tt.pauses || s.turns != tt.turns {
				t.Errorf("without stacks: %v after %d turns, %d pauses; want %v after %d, pauses %v", s.spares, s.turns, s.pauses, tt.spares, tt.turns, tt.pauses)
			}
			if s.worst > 2*0.05 {
				t.Errorf("%.3f in the worst second", s.worst)
			}
		})
	}
}

func TestBudgetStacksComeBack(t *testing.T) {
	s := simulation{cpus: 2, dear: 0.02, walks: 0.06, now: 1}
	b := NewBudget(0.05, true)
	s.run(b, 30*time.Second)
	if !s.spares {
		t.Fatal("stacks are too dear and were not left out")
	}
	s.walks = 0.025 // 0.045 in all: it would fit, but for the margin
	s.run(b, 30*time.Second)
	if !s.spares {
		t.Error("stacks came back to where there is hardly room")
	}
	s.walks = 0.01
	s.run(b, 9*time.Second)
	if !s.spares {
		t.Error("stacks came back at once")
	}
	s.run(b, 21*time.Second)
	if s.spares || s.pauses != 0 || s.turns != 2 {
		t.Errorf("without stacks: %v after %d turns, %d pauses; they have been cheap for half a minute", s.spares, s.turns, s.pauses)
	}
}

// What a Budget reserves can be spent without a Step, and nothing is reserved of a debt.
func TestBudgetReserve(t *testing.T) {
	b := NewBudget(0.05, false)
	s := simulation{cpus: 2, dear: 0.9, now: 1}
	s.run(b, 20*time.Second)
	for b.paused != 0 || b.credit < b.rate*float64(window)/8 { // up to the end of a pause
		s.run(b, time.Nanosecond)
	}
	d := b.Reserve()
	if left := b.credit - float64(d)*(0.9*2-0.1); d < time.Millisecond || left < 0.4*b.credit {
		t.Errorf("%v reserved of %v: %v left", d, time.Duration(b.credit), time.Duration(left))
	}
	b.credit = -1
	if d := b.Reserve(); d != 0 {
		t.Errorf("%v reserved of a debt", d)
	}
	if d := NewBudget(1, false).Reserve(); d != window {
		t.Errorf("%v without a budget", d)
	}
}
