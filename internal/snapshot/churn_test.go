package snapshot_test

import (
	"fmt"
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

// collects says whether a frame is one of the garbage collector, which has
// goroutines help it, and wait for each other with a reason of package sync.
func collects(f dump.Frame) bool { return strings.HasPrefix(f.Func, "runtime.gc") }

// churned is what was seen in many snapshots of the program.
type churned struct {
	snapshots, stacks, whole, torn int
	epochs                         map[uint64]bool
}

// check looks at one snapshot: every stack must be one that its goroutine can
// have had.
func (c *churned) check(t *testing.T, d *dump.Dump) {
	c.snapshots++
	c.torn += d.Torn
	for i := range d.Goroutines {
		g := &d.Goroutines[i]
		if d.Sites[g.Start].Func != "main.live" {
			continue
		}
		if what := c.wrong(d, g); what != "" {
			t.Errorf("goroutine %d, %s %s: %s\n%v", g.ID, g.Status, d.ReasonOf(g), what, d.Stacks[g.Stack].Frames)
		}
	}
}

// wrong says what is wrong with the stack of g, "" if nothing is.
func (c *churned) wrong(d *dump.Dump, g *dump.Goroutine) string {
	switch g.Source {
	case dump.SourceMemory:
	case dump.SourceInvalid:
		return "its memory made no sense"
	default:
		return ""
	}
	c.stacks++
	s := d.Stacks[g.Stack]
	calls, path, ok := spelled(s.Frames)
	if !ok || s.Cut {
		return "no stack of this program"
	}
	epoch := path & (1<<epochBits - 1)
	if calls > epochBits && (path^churnPath(g.ID, epoch))&(1<<calls-1) != 0 {
		return fmt.Sprintf("%d calls spell %#x, which is not its path", calls, path)
	}
	if where := parkedIn[d.ReasonOf(g)]; where != "" && !slices.ContainsFunc(s.Frames, collects) {
		if calls != levels || !slices.ContainsFunc(s.Frames, func(f dump.Frame) bool { return f.Func == where }) {
			return "it does not wait where it waits"
		}
	}
	if calls == levels {
		c.epochs[epoch] = true
		if g.Status == goruntime.Waiting {
			c.whole++
		}
	}
	return ""
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

// TestChurnFindsFaults gives goroutines the stacks of others, which the check of
// TestChurn has to tell.
func TestChurnFindsFaults(t *testing.T) {
	prog := testenv.Start(t, testenv.BuildTarget(t, "churn", testenv.Build{}), "500")
	prog.WaitLine("churning")
	d := take(t, opened(t, prog.PID()))
	seen := churned{epochs: map[uint64]bool{}}
	var parked []*dump.Goroutine
	for i := range d.Goroutines {
		if g := &d.Goroutines[i]; d.ReasonOf(g) == "sleep" && d.Sites[g.Start].Func == "main.live" {
			if what := seen.wrong(d, g); what != "" {
				t.Fatalf("goroutine %d: %s", g.ID, what)
			}
			parked = append(parked, g)
		}
	}
	if len(parked) < 50 {
		t.Fatalf("%d goroutines sleep", len(parked))
	}
	for i, g := range parked {
		doctored := *g
		doctored.Stack = parked[(i+1)%len(parked)].Stack
		if seen.wrong(d, &doctored) == "" && doctored.Stack != g.Stack {
			t.Errorf("goroutine %d has the stack of another, and it passed", g.ID)
		}
	}
}
