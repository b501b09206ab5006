package profile

import (
	"fmt"
	"testing"

	"gopherscope/internal/event"
	"gopherscope/internal/stream"
)

// BenchmarkEvent is the cost of an event of goroutines that hand work to each other, and
// the memory that a goroutine takes.
func BenchmarkEvent(b *testing.B) {
	for _, n := range []uint64{100, 100_000} {
		b.Run(fmt.Sprintf("goroutines=%d", n), func(b *testing.B) {
			c := New(Wall, &stream.Info{PID: 5, Begin: begin})
			steps := []event.Event{
				change(0, run, wait, stack(1), reason("chan receive")), change(0, wait, ready), change(0, ready, run),
			}
			now := int64(begin)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				e := steps[i%3]
				now += 100
				e.Time, e.GoID = now, 1+uint64(i/3)%n
				c.Event(&e)
			}
			if c.States().Violations() > 0 {
				b.Fatal("the stream is wrong")
			}
		})
	}
}

// TestMemory bounds what a goroutine and a sample take: see the doc of Collector.
func TestMemory(t *testing.T) {
	const n = 50_000
	var c *Collector
	perGoroutine := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			c = New(Block, &stream.Info{PID: 5, Begin: begin})
			for id := range uint64(n) {
				e := change(1100, run, wait, stack(1), goroutineID(id+1))
				c.Event(&e)
			}
		}
	}).AllocedBytesPerOp() / n
	if c.Samples() != 1 {
		t.Errorf("%d samples of %d goroutines with the same stack", c.Samples(), n)
	}
	t.Logf("%d bytes allocated a goroutine, those for the growth of the maps included", perGoroutine)
	if perGoroutine > 600 {
		t.Errorf("%d bytes a goroutine", perGoroutine)
	}
}
