package ptrace_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// A tracer that is killed at any moment leaves a process that is whole, in its
// registers, mask, stacks and mappings, and that nobody traces.
func TestDeathAtAnyMoment(t *testing.T) {
	kills := 300
	if testing.Short() {
		kills = 30
	}
	p := start(t, "integrity")
	p.lives()
	before := maps(t, p.PID())
	for i := range kills {
		h := startHelper(t, p, "loop")
		h.WaitLine("go")
		time.Sleep(time.Duration(rand.IntN(4000)) * time.Microsecond)
		h.Kill()
		for _, line := range h.Lines() {
			t.Fatalf("kill %d: the helper said: %s", i, line)
		}
		p.lives()
		if state := status(p.PID(), "State"); state == "" || strings.ContainsAny(state[:1], "tTZX") {
			t.Fatalf("kill %d: state %s", i, state)
		}
	}
	if after := maps(t, p.PID()); after != before {
		t.Errorf("mappings before:\n%s\nafter:\n%s", before, after)
	}
	f := p.lives()
	t.Logf("%d kills; %d rounds, %d SIGALRM, %d sleeps ended early", kills, f.Rounds, f.Ticks, f.EINTR)
}

// The same at moments that are chosen, among them those in which the thread's
// registers are not its own.
func TestDeathWhileArmed(t *testing.T) {
	p := start(t, "integrity")
	for i := range 15 {
		for _, mode := range []string{"die-before", "die-after", "die-later", "die-stopped"} {
			h := startHelper(t, p, mode)
			if err := h.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
				t.Fatalf("%s %d: the helper ended with %v\n%s", mode, i, err, h.Stderr())
			}
			p.lives()
		}
	}
}

// All threads that a dead tracer held go on.
func TestDeathWhileAllAreStopped(t *testing.T) {
	p := start(t, "integrity")
	for range 5 {
		h := startHelper(t, p, "hold")
		if line := h.WaitLine("go"); line != "go 3" {
			t.Fatalf("%q", line)
		}
		if err := p.standsFor(10 * time.Millisecond); err != nil {
			t.Fatal(err)
		}
		h.Kill()
		was := p.lives().Other
		p.await("the second thread", func(f facts) bool { return f.Other > was+10 })
	}
}

// What the machine has is what the program watches: without its vector registers the
// tests above would say little.
func TestIntegrityNotices(t *testing.T) {
	p := start(t, "integrity")
	p.lives()
	for range 50 {
		if err := spoil(p); err != nil {
			t.Fatal(err)
		}
	}
	f := p.await("the damage to be seen", func(f facts) bool { return f.Bad > 0 })
	if f.What&^wrongRegister != 0 {
		t.Errorf("what was wrong: %#x, want %#x", f.What, wrongRegister)
	}
}
