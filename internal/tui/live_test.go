package tui

import (
	"slices"
	"testing"
	"time"

	"gopherscope/internal/clock"
	"gopherscope/internal/dump"
	"gopherscope/internal/process"
	"gopherscope/internal/snapshot"
	"gopherscope/internal/target"
	"gopherscope/internal/testenv"
)

// TestStacksOfBefore reads the stacks of a program that is at work twice, and wants
// those of the first time to be the same as the second's wherever a Sample says that
// the goroutine still has them.
func TestStacksOfBefore(t *testing.T) {
	testenv.RequireRoot(t)
	p := testenv.Start(t, testenv.BuildTarget(t, "leaky", testenv.Build{}))
	p.WaitLine("ready")
	proc, err := process.Open(p.PID())
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	tgt, err := target.Open(proc)
	if err != nil {
		t.Fatal(err)
	}
	defer tgt.Close()
	memory := &snapshot.Memory{}
	take := func() *dump.Dump {
		d, err := snapshot.Take(t.Context(), tgt, &snapshot.Options{Stacks: true, Clock: clock.Mono, Memory: memory})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	same, ran := 0, 0
	old := take()
	for range 20 {
		time.Sleep(10 * time.Millisecond)
		now := take()
		s := &Sample{Dump: now, Stacks: old}
		ids, current := s.stackIDs()
		for i := range now.Goroutines {
			g := &now.Goroutines[i]
			if !current[i] {
				ran++
				continue
			}
			same++
			before, after := old.Stacks[ids[i]].Frames, now.Stacks[g.Stack].Frames
			if g.Source == dump.SourceMemory && ids[i] != 0 && !slices.Equal(before, after) {
				t.Errorf("goroutine %d has not run, they say, and its stack was %v and is %v", g.ID, before, after)
			}
		}
		old = now
	}
	if same < 1000 || ran < 100 {
		t.Errorf("%d stacks were the same and %d goroutines ran: that is no test", same, ran)
	}
	t.Logf("%d stacks were the same, %d goroutines had run", same, ran)
}
