//go:build amd64

package inline

import (
	"errors"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gopherscope/internal/process"
	"gopherscope/internal/target"
	"gopherscope/internal/testenv"
)

// stormed starts a program that does nothing but switch goroutines, most of the time in
// our code or close to it, and sends its threads signals without a pause.
func stormed(t *testing.T) *target.Target {
	t.Helper()
	testenv.RequireRoot(t)
	p := testenv.Start(t, testenv.BuildTarget(t, "pingpong", testenv.Build{Go: "1.26"}), "2000000000")
	proc, err := process.Open(p.PID())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { proc.Close() })
	var tgt *target.Target
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if tgt, err = target.Open(proc); err == nil || time.Now().After(end) {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tgt.Close() })
	done := make(chan bool)
	t.Cleanup(func() { close(done) })
	go func() {
		for {
			tids, err := os.ReadDir("/proc/" + strconv.Itoa(p.PID()) + "/task")
			if err != nil {
				return
			}
			for range 50 {
				for _, e := range tids {
					if tid, err := strconv.Atoi(e.Name()); err == nil {
						_ = unix.Tgkill(p.PID(), tid, unix.SIGURG) // it may have ended
					}
				}
				select {
				case <-done:
					return
				case <-time.After(20 * time.Microsecond):
				}
			}
		}
	}()
	return tgt
}

// cycle attaches and detaches. It returns how often that had to wait for a signal handler.
func cycle(tgt *target.Target, blind bool) (deferred int, err error) {
	sites, err := plan(tgt)
	if err != nil {
		return 0, err
	}
	sh := shape{rings: minRings, ringBytes: pageSize} // soon full: then they only count
	in, err := prepare(tgt, sites, sh)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, in.release()) }()
	in.blind = blind
	if err := in.place(sh); err != nil {
		return 0, err
	}
	if _, err = newRings(in.shared, in.what.Rings, sh.rings, sh.ringBytes, func(*raw) int { return 0 }); err == nil {
		err = in.hookIn()
	}
	if err == nil {
		err = in.enable(in.what.Rings + pageSize)
	}
	err = errors.Join(err, in.remove())
	return in.deferred, err
}

// A handler would return into the code in one of a hundred cycles, more or less. Each test
// goes on until it has, for at most this many cycles.
const stormCycles = 3000

// TestHandlers detaches under a storm of signals, until detaches have been put off because a
// handler would have returned into the code.
func TestHandlers(t *testing.T) {
	tgt := stormed(t)
	deferred := 0
	for i := range stormCycles {
		n, err := cycle(tgt, false)
		if err != nil {
			t.Fatalf("cycle %d: %v", i, err)
		}
		if tgt.Proc.Exited() {
			t.Fatalf("the program ended in cycle %d", i)
		}
		if deferred += n; deferred >= 3 {
			t.Logf("%d detaches put off in %d cycles", deferred, i+1)
			return
		}
	}
	t.Errorf("%d detaches put off in %d cycles: the storm shows nothing", deferred, stormCycles)
}

// TestHandlersIgnored is the negative control: without the search for signal frames the
// program crashes. It proves that TestHandlers tests something.
func TestHandlersIgnored(t *testing.T) {
	tgt := stormed(t)
	for i := range stormCycles {
		// Errors come when it has crashed.
		_, _ = cycle(tgt, true)
		if tgt.Proc.Exited() {
			t.Logf("crashed in cycle %d", i)
			return
		}
	}
	t.Error("the program lives though signal handlers were ignored")
}
