//go:build amd64

package stress_test

import (
	"strconv"
	"testing"
	"time"

	"gopherscope/internal/testenv"
)

// TestCycles attaches and detaches.
func TestCycles(t *testing.T) {
	each(t, false, func(t *testing.T, tr tracer, b testenv.Build, again func() bool) {
		s := start(t, b, "-storm", "1000")
		var events, lost uint64
		var longest time.Duration
		var ours, its growth
		n := 0
		for ; again(); n++ {
			stats, pause := s.trace(tr, 15*time.Millisecond)
			events, lost, longest = events+stats.Events, lost+stats.Lost.Total(), max(longest, pause)
			s.untouched()
			ours.add(t, "self")
			its.add(t, strconv.Itoa(s.PID()))
			if n%5 == 0 {
				s.alive()
			}
		}
		s.alive()
		t.Logf("%d cycles, %d more refused, %d events, %d lost, longest pause %v; tracer: %v; program: %v", n, s.refused, events, lost, longest, ours, its)
		if events == 0 || lost > events/10 {
			t.Errorf("%d events, %d lost", events, lost)
		}
		ours.check(t, "the tracer", size{fds: 0, maps: 40, resident: 64 << 20})
		fds := 4
		if n < 4*leastCycles { // two measurements at each end do not level out what comes and goes
			fds = 16
		}
		its.check(t, "the program", size{fds: fds, maps: 40, resident: 128 << 20})
		s.end()
	})
}
