package snapshot_test

import (
	"strings"
	"testing"
	"time"

	"gopherscope/internal/dump"
	"gopherscope/internal/testenv"
)

// TestAlternate takes snapshots of goroutines that stop in two functions by turns,
// at the same depth and by ways that g.trackingSeq does not count. The frame of a
// function must be that of the call that its caller is at.
func TestAlternate(t *testing.T) {
	sites := testenv.SitesIn(t, "alternate")
	for _, b := range []testenv.Build{{Go: "1.22"}, {}, {Go: "1.27"}} {
		t.Run(b.String(), func(t *testing.T) {
			prog := testenv.Start(t, testenv.BuildTarget(t, "alternate", b))
			prog.WaitLine("alternating")
			tgt := opened(t, prog.PID())
			seen, torn := map[string]int{}, 0
			for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
				d := take(t, tgt)
				torn += d.Torn
				for i := range d.Goroutines {
					frames := d.Stacks[d.Goroutines[i].Stack].Frames
					for k := range frames {
						name := strings.TrimPrefix(frames[k].Func, "main.")
						site, ok := sites[name]
						if !ok {
							continue
						}
						seen[name]++
						if caller := callerOf(frames, k); int(caller.Line) != site.Line {
							t.Fatalf("goroutine %d: %s is called from line %d, which it is not: %v", d.Goroutines[i].ID, name, caller.Line, frames)
						}
					}
				}
			}
			t.Logf("%v, %d torn", seen, torn)
			if seen["enterP"] == 0 || seen["enterQ"] == 0 {
				t.Error("system calls were not seen")
			}
			if b.Minor() >= 23 && seen["yieldP"]+seen["yieldQ"]+torn == 0 {
				t.Error("coroutines were not seen")
			}
		})
	}
}

// callerOf is the frame that follows frame k; the zero Frame if there is none.
func callerOf(frames []dump.Frame, k int) dump.Frame {
	if k+1 < len(frames) {
		return frames[k+1]
	}
	return dump.Frame{}
}
