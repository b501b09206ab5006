package ebpf

import (
	"fmt"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"gopherscope/internal/event"
	"gopherscope/internal/gstate"
	"gopherscope/internal/testenv"
)

// A signal handler can return to a goroutine that is just about to enter C code, or comes out of
// it. The goroutine's change to running is the runtime's, not the handler's return.
func TestSignalsAtCgo(t *testing.T) {
	testenv.RequireBPF(t)
	p := testenv.StartWaiting(t, testenv.BuildTarget(t, "cgocall", testenv.Build{Cgo: true}), "100000")
	e := start(t, openTarget(t, p.PID()), nil)
	p.Go()
	done := wait(t, p)
	sent := make(chan int)
	go func() { sent <- interrupt(p.PID(), done) }()
	tr := gstate.NewTracker()
	n := 0
	collect(t, e, done, func(ev *event.Event) {
		n++
		if tr.Apply(ev).Violation {
			t.Errorf("a violation: %+v", ev)
		}
	})
	checkLossless(t, e)
	if signals := <-sent; signals < 1000 || n < 100000 {
		t.Errorf("%d signals, %d events: too few", signals, n)
	}
}

// interrupt sends every thread of a process the signal by which the runtime preempts, which does no
// harm, until done is closed.
func interrupt(pid int, done <-chan struct{}) (sent int) {
	for {
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			return sent
		}
		for range 100 {
			for _, thread := range threads {
				tid, _ := strconv.Atoi(thread.Name())
				if unix.Tgkill(pid, tid, unix.SIGURG) == nil {
					sent++
				}
			}
			select {
			case <-done:
				return sent
			default:
			}
		}
	}
}
