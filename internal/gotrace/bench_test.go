package gotrace_test

import (
	"io"
	"runtime"
	"testing"

	"gopherscope/internal/event"
	"gopherscope/internal/gotrace"
	"gopherscope/internal/gstate"
	"gopherscope/internal/stream"
)

// steady is a stream without end: goroutines that wake each other on four Ps.
type steady struct {
	now  int64
	goid uint64

	events []event.Event
}

func (s *steady) next(visit func(*event.Event)) {
	s.now += 3000
	s.goid = s.goid%1000 + 1
	p := int32(s.goid % 4)
	at := s.now/1000 - begin/1000
	s.events = append(s.events[:0],
		ready(at, int64(s.goid), p, 0), change(at+1, int64(s.goid), p, runnable, running, event.ViaSchedule),
		change(at+1, int64(s.goid), p, running, syscall, event.ViaSyscall), change(at+2, int64(s.goid), p, syscall, running, event.ViaSyscall),
		park(at+2, int64(s.goid), p, "chan receive"),
	)
	for i := range s.events {
		visit(&s.events[i])
	}
}

// BenchmarkEvent is the time of an event, without that of package gstate, and the memory
// that a Writer holds after all of them.
func BenchmarkEvent(b *testing.B) {
	var counted counter
	w := gotrace.New(&counted, &stream.Info{Begin: begin}, noStack)
	states := gstate.NewTracker()
	s := steady{now: begin}
	s.next(func(e *event.Event) { states.Apply(e) })
	var c gstate.Change
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		s.next(func(e *event.Event) {
			if err := w.Event(e, &c); err != nil {
				b.Fatal(err)
			}
			n++
		})
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/event")
	b.ReportMetric(float64(counted)/float64(n), "bytes/event")
	b.ReportMetric(float64(int64(after.HeapAlloc)-int64(before.HeapAlloc))/1024, "KB-held")
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
}

// counter counts what is written.
type counter int64

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}

var _ io.Writer = (*counter)(nil)
