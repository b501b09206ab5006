package target_test

import (
	"os"
	"regexp"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"testing"
	"time"

	"gopherscope/internal/gobinary"
	"gopherscope/internal/process"
	"gopherscope/internal/target"
	"gopherscope/internal/testenv"
)

// header begins the stack of a goroutine, but not of a thread's g0.
var header = regexp.MustCompile(`(?m)^goroutine [1-9][0-9]* `)

// A program that is made to crash dumps the stacks of all its goroutines, with
// those of the runtime: as many as were counted from outside.
func TestCountGoroutines(t *testing.T) {
	for _, b := range []testenv.Build{
		{Go: "1.18"}, {Go: "1.22", PIE: true}, {Go: "1.25", Stripped: true}, {Go: "1.26", Cgo: true}, {Go: "1.27"},
	} {
		t.Run(b.String(), func(t *testing.T) {
			prog := testenv.StartEnv(t, []string{"GOTRACEBACK=system"}, testenv.BuildTarget(t, "idle", b))
			prog.WaitLine("held")
			p, bin := open(t, prog.PID())
			got, err := target.CountGoroutines(p, bin)
			if err != nil {
				t.Fatal(err)
			}
			prog.Signal(syscall.SIGQUIT)
			prog.Lines() // to its end, which the end of its input would bring, too
			if err := prog.Wait(); err == nil {
				t.Fatal("SIGQUIT did no harm")
			}
			if want := len(header.FindAllString(prog.Stderr(), -1)); got != want {
				t.Errorf("CountGoroutines = %d, want %d", got, want)
			}
		})
	}
}

func open(t *testing.T, pid int) (*process.Process, *gobinary.File) {
	t.Helper()
	p, err := process.Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	bin, err := gobinary.Open(p.ExePath())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bin.Close() })
	return p, bin
}

// Dead goroutines stay in allgs and are not counted.
func TestCountGoroutinesDead(t *testing.T) {
	p, bin := open(t, os.Getpid())
	runtime.GC() // starts the runtime's goroutines that do it
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	own, before := -1, runtime.NumGoroutine()
	for _, n := range []int{0, 10, 1000, 20000, 100, 0} {
		var ended sync.WaitGroup
		stop := make(chan struct{})
		for range n {
			ended.Go(func() { <-stop })
		}
		got, err := target.CountGoroutines(p, bin)
		if err != nil {
			t.Fatal(err)
		}
		if got -= runtime.NumGoroutine(); own < 0 {
			own = got
		}
		if got != own || own < 1 {
			t.Errorf("with %d goroutines more, %d of the runtime, want %d", n, got, own)
		}
		close(stop)
		ended.Wait()
		for runtime.NumGoroutine() > before { // Done comes a moment before the end
			time.Sleep(time.Millisecond)
		}
	}
}

// The count does not fall for a list that grows, and so moves, all the time.
func TestCountGoroutinesGrowing(t *testing.T) {
	p, bin := open(t, os.Getpid())
	var ended sync.WaitGroup
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for range 50000 {
			ended.Go(func() { <-stop })
		}
	}()
	last := 0
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		n, err := target.CountGoroutines(p, bin)
		if err != nil || n < last-50 {
			t.Errorf("CountGoroutines = %d, %v after %d", n, err, last)
		}
		last = n
	}
	close(stop)
	ended.Wait()
}
