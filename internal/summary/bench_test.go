package summary_test

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/gstate"
	"gopherscope/internal/summary"
)

// lap is a stream that ends in the states in which it began, so that it can be fed again
// and again with later times: servers and workers that wait, wake each other, make
// system calls and start goroutines that end.
type lap struct {
	events []event.Event
	length int64 // ns
	now    int64
}

const (
	lapGoroutines = 2000
	lapSites      = 40
)

func newLap(rounds int) *lap {
	l := &lap{events: make([]event.Event, 0, 6*rounds+6*lapGoroutines)}
	births := make([]*event.Birth, lapSites)
	for i := range births {
		births[i] = birthAt(fmt.Sprintf("example.com/some/module/pkg%d.(*Server).handle", i), 100+i)
	}
	reasons := []string{"chan receive", "select", "IO wait", "sync.Mutex.Lock", "sleep"}
	for g := range uint64(lapGoroutines) {
		e := l.add(g+1, goruntime.Dead, goruntime.Runnable, event.ViaCreate)
		e.Birth = births[g%lapSites]
		l.add(g+1, goruntime.Runnable, goruntime.Running, event.ViaSchedule)
		l.add(g+1, goruntime.Running, goruntime.Waiting, event.ViaPark).Reason = reasons[g%5]
	}
	born := uint64(lapGoroutines)
	for i := range uint64(rounds) {
		g := i*7919%lapGoroutines + 1
		l.add(g, goruntime.Waiting, goruntime.Runnable, event.ViaReady).Waker = g%lapGoroutines + 1
		l.add(g, goruntime.Runnable, goruntime.Running, event.ViaSchedule)
		l.add(g, goruntime.Running, goruntime.Syscall, event.ViaSyscall)
		l.add(g, goruntime.Syscall, goruntime.Running, event.ViaSyscall)
		if i%4 == 0 {
			born++
			l.add(born, goruntime.Dead, goruntime.Runnable, event.ViaCreate).Birth = births[i%lapSites]
			l.add(born, goruntime.Runnable, goruntime.Running, event.ViaSchedule)
			l.add(born, goruntime.Running, goruntime.Dead, event.ViaExit)
		}
		l.add(g, goruntime.Running, goruntime.Waiting, event.ViaPark).Reason = reasons[i%5]
	}
	for g := range uint64(lapGoroutines) {
		l.add(g+1, goruntime.Waiting, goruntime.Runnable, event.ViaReady)
		l.add(g+1, goruntime.Runnable, goruntime.Running, event.ViaSchedule)
		l.add(g+1, goruntime.Running, goruntime.Dead, event.ViaExit)
	}
	l.length = l.now
	return l
}

func (l *lap) add(goid uint64, from, to goruntime.Status, via event.Via) *event.Event {
	l.now += 300 + int64(len(l.events)*7919%5000)
	l.events = append(l.events, event.Event{PID: 7, TID: 8, GoID: goid, From: from, To: to, Via: via, Time: l.now, P: int32(goid % 4)})
	return &l.events[len(l.events)-1]
}

// feed passes on n events.
func (l *lap) feed(n int, tr *gstate.Tracker, s *summary.Summary) {
	var offset int64
	for i := 0; n > 0; n-- {
		e := l.events[i]
		e.Time += offset
		s.Event(&e, tr.Apply(&e))
		if i++; i == len(l.events) {
			i, offset = 0, offset+l.length
		}
	}
}

// BenchmarkSummary is the whole way of an event from an engine to the figures.
// "make bench-views" runs it over ten million events.
func BenchmarkSummary(b *testing.B) {
	l := newLap(20_000)
	tr, s := gstate.NewTracker(), summary.New(0, summary.Options{Top: 10})
	b.ReportAllocs()
	cpu := cpuTime(b)
	b.ResetTimer()
	l.feed(b.N, tr, s)
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(b.N)/(cpuTime(b)-cpu).Seconds(), "events/cpu-s") // also on a machine that has others at work
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	b.ReportMetric(float64(mem.Sys)/(1<<20), "peak-MB") // what was ever asked of the system
	if n := s.Page().Events; n != uint64(b.N) || tr.Violations() != 0 {
		b.Fatalf("%d events, %d violations of %d", n, tr.Violations(), b.N)
	}
}

// cpuTime is what this process has used so far, the garbage collector included.
func cpuTime(b *testing.B) time.Duration {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		b.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

// BenchmarkPage is what a page each second costs, of a program with many goroutines.
func BenchmarkPage(b *testing.B) {
	l := newLap(20_000)
	tr, s := gstate.NewTracker(), summary.New(0, summary.Options{Top: 10})
	l.feed(len(l.events)-3*lapGoroutines, tr, s)
	for b.Loop() {
		if s.Page().Alive != lapGoroutines {
			b.Fatal("goroutines are missing")
		}
	}
}
