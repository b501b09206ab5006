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
}

// run lets the budget decide for so long; it returns false when that gave up.
func (s *simulation) run(b *Budget, d time.Duration) bool {
	tracing := true
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
			s.cost += time.Duration(float64(used) * s.dear)
			s.traced += step
		}
		past = append(past, moment{s.now, s.cost, s.cpu})
		for past[0].now < s.now-int64(time.Second) {
			past = past[1:]
		}
		if s.now-past[0].now > int64(9*time.Second/10) && s.cpu > past[0].cpu {
			s.worst = max(s.worst, float64(s.cost-past[0].cost)/float64(s.cpu-past[0].cpu))
		}
		switch b.Step(s.now, s.cost, s.cpu) {
		case Pause:
			tracing = false
			s.pauses++
		case Resume:
			tracing = true
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
			ok := s.run(NewBudget(tt.share), time.Minute)
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

// A trace that was cheap and becomes dear is paused before a second is over.
func TestBudgetTurns(t *testing.T) {
	b := NewBudget(0.05)
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
