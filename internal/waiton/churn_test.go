package waiton_test

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"gopherscope/internal/dump"
	"gopherscope/internal/process"
	"gopherscope/internal/target"
	"gopherscope/internal/testenv"
)

// swarmEnv has this test binary be the program that is looked at.
const swarmEnv = "WAITON_SWARM"

func TestMain(m *testing.M) {
	if os.Getenv(swarmEnv) != "" {
		swarm()
		return
	}
	os.Exit(m.Run())
}

// pairs is how many pairs of goroutines the swarm has.
const pairs = 200

// swarm is pairs of goroutines that never hold still for long, some less than a
// millisecond, some longer than a snapshot takes: one sends to the
// other over a channel, hears back over a second, and both lock a mutex. It prints
// the goroutines and what they may wait on.
func swarm() {
	var started sync.WaitGroup
	var mu sync.Mutex
	say := func(what string, addrs ...any) {
		b := make([]byte, 64)
		mu.Lock()
		fmt.Println(strings.Fields(string(b[:runtime.Stack(b, false)]))[1], fmt.Sprintf(what, addrs...))
		mu.Unlock()
		started.Done()
	}
	for n := range time.Duration(pairs) {
		there, back, lock := make(chan int), make(chan int, 1), new(sync.Mutex)
		started.Add(2)
		go func() {
			say("%p/send %p/receive %p/lock", there, back, unsafe.Pointer(lock))
			for i := 0; ; i++ {
				there <- i
				lock.Lock()
				time.Sleep(20 * time.Microsecond)
				lock.Unlock()
				<-back
			}
		}()
		go func() {
			say("%p/receive %p/send %p/lock", there, back, unsafe.Pointer(lock))
			for {
				select {
				case i := <-there:
					lock.Lock()
					lock.Unlock()
					time.Sleep((n + 1) * 300 * time.Microsecond)
					back <- i
				case <-time.After(time.Hour):
				}
			}
		}()
	}
	started.Wait()
	fmt.Println("held")
	io.Copy(io.Discard, os.Stdin)
}

// While goroutines go on and on, none is shown with an object that it never waits
// on, or with the wrong direction.
func TestMoving(t *testing.T) {
	testenv.RequireRoot(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	prog := testenv.StartEnv(t, []string{swarmEnv + "=1"}, exe)
	allowed := map[uint64]map[string]bool{}
	for {
		line, ok := prog.ReadLine()
		if !ok {
			t.Fatalf("the program ended: %s", prog.Stderr())
		}
		if line == "held" {
			break
		}
		words := strings.Fields(line)
		id, err := strconv.ParseUint(words[0], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		allowed[id] = map[string]bool{}
		for _, w := range words[1:] {
			allowed[id][w] = true
		}
	}
	p, err := process.Open(prog.PID())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	tgt, err := target.Open(p)
	if err != nil {
		t.Fatal(err)
	}
	defer tgt.Close()
	shown, moved := 0, 0
	for range 30 {
		d, w := find(t, tgt)
		moved += w.Moved
		for _, o := range w.Objects {
			for _, one := range o.Waiters {
				id := d.Goroutines[one.G].ID
				if allowed[id] == nil || o.Chan.Elem == "time.Time" || o.Kind == dump.KindSemaphore && o.Global == dump.GlobalSelf {
					continue // other goroutines; timers; a start of the collector (runtime/mgc.go, work.startSema)
				}
				shown++
				if key := fmt.Sprintf("%#x/%s", o.Addr, one.How); !allowed[id][key] {
					t.Errorf("goroutine %d waits on %s %s, which is not one of %v", id, o.Kind, key, allowed[id])
				}
			}
		}
	}
	t.Logf("%d shown, %d moved", shown, moved)
	if shown == 0 || moved == 0 {
		t.Errorf("%d shown, %d moved: nothing was tested", shown, moved)
	}
}
