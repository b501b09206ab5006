package snapshot_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"gopherscope/internal/dump"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/testenv"
)

// The path that the program churn spells with its calls: see there.
const (
	epochBits = 8
	checkBits = 16
	levels    = epochBits + checkBits
)

func churnPath(goid, epoch uint64) uint64 {
	epoch &= 1<<epochBits - 1
	h := (goid<<epochBits | epoch) * 0x9e3779b97f4a7c15
	return epoch | h>>(64-checkBits)<<epochBits
}

// spelled reads the calls of steps off a stack: their number, and the path that
// they spell. ok is false when the stack is not one that the program can have.
func spelled(frames []dump.Frame) (calls int, path uint64, ok bool) {
	names := make([]string, 0, len(frames))
	for _, f := range slices.Backward(frames) {
		names = append(names, f.Func)
	}
	i := slices.Index(names, "main.root")
	if i < 0 {
		return 0, 0, true // between two descents
	}
	for _, name := range names[i+1:] {
		bit, isStep := map[string]uint64{"main.step0": 0, "main.step1": 1}[name]
		if !isStep {
			break
		}
		path |= bit << calls
		calls++
	}
	// Below the steps there is only the way to park, and the runtime.
	for _, name := range names[i+1+calls:] {
		if name == "main.root" || strings.HasPrefix(name, "main.step") || name == "main.live" {
			return calls, path, false
		}
	}
	return calls, path, calls <= levels
}

// parkedIn has for the wait reasons of the program the function that waits so.
var parkedIn = map[string]string{
	"sleep": "main.parkSleep", "select": "main.parkMeet", "sync.Mutex.Lock": "main.parkLock", "semacquire": "main.parkLock",
}

// churned is what was seen in many snapshots of the program.
type churned struct {
	snapshots, stacks, whole, torn, invalid int
	epochs                                  map[uint64]bool
}

// check looks at one snapshot: every stack must be one that its goroutine can
// have had.
func (c *churned) check(t *testing.T, d *dump.Dump) {
	c.snapshots++
	c.torn += d.Torn
	for i := range d.Goroutines {
		g := &d.Goroutines[i]
		if g.Source == dump.SourceInvalid {
			c.invalid++
			t.Errorf("goroutine %d, %s: its stack makes no sense", g.ID, g.Status)
		}
		if g.Source != dump.SourceMemory || d.Sites[g.Start].Func != "main.live" {
			continue
		}
		s := d.Stacks[g.Stack]
		calls, path, ok := spelled(s.Frames)
		if ok && calls > epochBits {
			epoch := path & (1<<epochBits - 1)
			c.epochs[epoch] = true
			ok = (path^churnPath(g.ID, epoch))&(1<<calls-1) == 0
		}
		if where := parkedIn[d.ReasonOf(g)]; where != "" {
			ok = ok && calls == levels && slices.ContainsFunc(s.Frames, func(f dump.Frame) bool { return f.Func == where })
		}
		if !ok || s.Cut {
			t.Errorf("goroutine %d, %s %s: a wrong stack, cut %v: %d calls, path %#x\n%v", g.ID, g.Status, d.ReasonOf(g), s.Cut, calls, path, s.Frames)
		}
		c.stacks++
		if calls == levels && g.Status == goruntime.Waiting {
			c.whole++
		}
	}
}

// TestChurn takes snapshots of a program whose goroutines are created, park, run,
// move, grow and die all the time, and whose stacks tell whether they are whole.
// GOPHERSCOPE_CHURN is for how long and makes it 100 thousand goroutines.
func TestChurn(t *testing.T) {
	goroutines, duration := "3000", 4*time.Second
	builds := []testenv.Build{{Go: "1.18"}, {Go: "1.22", PIE: true, Stripped: true}, {}, {Go: "1.27", Cgo: true}}
	if long := os.Getenv("GOPHERSCOPE_CHURN"); long != "" {
		var err error
		if duration, err = time.ParseDuration(long); err != nil {
			t.Fatal(err)
		}
		goroutines, builds, duration = "100000", []testenv.Build{{Go: "1.21"}, {Go: "1.27"}}, duration/2
	}
	for _, b := range builds {
		t.Run(b.String(), func(t *testing.T) {
			prog := testenv.Start(t, testenv.BuildTarget(t, "churn", b), goroutines)
			prog.WaitLine("churning")
			tgt := opened(t, prog.PID())
			seen := churned{epochs: map[uint64]bool{}}
			for end := time.Now().Add(duration); time.Now().Before(end) && !t.Failed(); {
				seen.check(t, take(t, tgt))
			}
			t.Logf("%d snapshots, %d stacks, %d of them whole paths in %d epochs, %d torn", seen.snapshots, seen.stacks, seen.whole, len(seen.epochs), seen.torn)
			if seen.whole < 1000 || len(seen.epochs) < 5 {
				t.Error("too few to tell")
			}
			if seen.torn > seen.stacks/100 {
				t.Errorf("%d of %d goroutines were torn", seen.torn, seen.stacks)
			}
			if err := prog.Wait(); err != nil {
				t.Errorf("the program: %v\n%s", err, prog.Stderr())
			}
		})
	}
}
