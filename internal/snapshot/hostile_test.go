package snapshot_test

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"gopherscope/internal/dump"
	"gopherscope/internal/process"
	"gopherscope/internal/snapshot"
	"gopherscope/internal/target"
	"gopherscope/internal/testenv"
)

// hostile is the memory of a process that lies: now and then a word of what is
// read is replaced.
type hostile struct {
	process.Memory
	rand *rand.Rand
	rate float64 // how many of the words are replaced
}

func (h *hostile) ReadMem(addr uint64, b []byte) error {
	err := h.Memory.ReadMem(addr, b)
	h.lie(b)
	return err
}

func (h *hostile) ReadMany(reads []process.MemRead) (int, error) {
	n, err := h.Memory.ReadMany(reads)
	for _, r := range reads[:n] {
		h.lie(r.Buf)
	}
	return n, err
}

func (h *hostile) lie(b []byte) {
	for i := 0; i+8 <= len(b); i += 8 {
		if h.rand.Float64() >= h.rate {
			continue
		}
		word := binary.LittleEndian.Uint64(b[i:])
		lies := []uint64{0, 1, ^uint64(0), 1 << 40, word + 8, word - 8, word &^ 0xff, h.rand.Uint64(), 1 << 63, word << 8}
		binary.LittleEndian.PutUint64(b[i:], lies[h.rand.IntN(len(lies))])
	}
}

// TestHostileMemory takes snapshots of memory that lies. They end in bounded time
// and memory, with an error or with goroutines whose tables are whole.
func TestHostileMemory(t *testing.T) {
	for _, b := range []testenv.Build{{Go: "1.18"}, {}, {Go: "1.27"}} {
		t.Run(b.String(), func(t *testing.T) {
			prog := testenv.Start(t, testenv.BuildTarget(t, "still", b))
			prog.WaitLine("held")
			tgt := *opened(t, prog.PID())
			honest := tgt.Mem
			var before, after runtime.MemStats
			failed := 0
			for seed := range uint64(150) {
				tgt.Mem = &hostile{honest, rand.New(rand.NewPCG(seed, 1)), []float64{0.0002, 0.002, 0.05}[seed%3]}
				runtime.ReadMemStats(&before)
				began := time.Now()
				d, err := snapshot.Take(context.Background(), &tgt, &snapshot.Options{Stacks: true})
				if took := time.Since(began); took > 20*time.Second {
					t.Errorf("seed %d: took %v", seed, took)
				}
				if runtime.ReadMemStats(&after); after.TotalAlloc-before.TotalAlloc > 1<<30 {
					t.Errorf("seed %d: allocated %d MB", seed, (after.TotalAlloc-before.TotalAlloc)>>20)
				}
				if err != nil {
					failed++
				}
				if d != nil {
					touch(d)
				}
			}
			if failed > 100 {
				t.Errorf("%d of 150 ended with an error: too few to see anything", failed)
			}
		})
	}
}

// touch follows every reference in a Dump, and panics at one that leads nowhere.
func touch(d *dump.Dump) (n int) {
	for i := range d.Goroutines {
		g := &d.Goroutines[i]
		n += len(d.Stacks[g.Stack].Frames) + len(d.Labels[g.Labels]) + len(d.Sites[g.Created].Func) + len(d.Sites[g.Start].Func)
		n += len(d.ReasonOf(g)) + len(g.Source.String())
	}
	return n
}

// TestAllgsAbsurd gives the list of goroutines an absurd length.
func TestAllgsAbsurd(t *testing.T) {
	prog := testenv.Start(t, testenv.BuildTarget(t, "still", testenv.Build{}))
	prog.WaitLine("held")
	tgt := *opened(t, prog.PID())
	allgs, err := tgt.Bin.Allgs()
	if err != nil {
		t.Fatal(err)
	}
	honest := tgt.Mem
	for _, n := range []uint64{1 << 27, 1 << 40, 1 << 63} {
		tgt.Mem = &patched{Memory: honest, addr: allgs + tgt.Bias + 8, word: n}
		_, err := snapshot.Take(context.Background(), &tgt, nil)
		if !errors.Is(err, target.ErrLayout) && !errors.Is(err, process.ErrBadAddress) {
			t.Errorf("allgs with %d entries: %v", n, err)
		}
	}
}

// patched is a memory in which one word is another.
type patched struct {
	process.Memory
	addr, word uint64
}

func (p *patched) ReadMem(addr uint64, b []byte) error {
	err := p.Memory.ReadMem(addr, b)
	if off := p.addr - addr; off+8 <= uint64(len(b)) && p.addr >= addr {
		binary.LittleEndian.PutUint64(b[off:], p.word)
	}
	return err
}

// TestExitHalfWay ends the process, or has it execute another program, while it
// is read: what was read before is there, and the error says what happened.
func TestExitHalfWay(t *testing.T) {
	prog := testenv.Start(t, testenv.BuildTarget(t, "churn", testenv.Build{}), "20000")
	prog.WaitLine("churning")
	tgt := *opened(t, prog.PID())
	ending := &ends{Memory: tgt.Mem, after: 30, end: prog.Kill}
	tgt.Mem = ending
	d, err := snapshot.Take(context.Background(), &tgt, &snapshot.Options{Stacks: true})
	if !errors.Is(err, process.ErrExited) || !strings.Contains(err.Error(), "so far") {
		t.Errorf("error %v", err)
	}
	if d == nil || len(d.Goroutines) < 1000 || len(d.Goroutines) > 19000 {
		t.Fatalf("read %d goroutines before the end", len(d.Goroutines))
	}
	touch(d)
}

// ends is a memory whose process is ended after some reads.
type ends struct {
	process.Memory
	after int
	end   func()
}

func (e *ends) ReadMany(reads []process.MemRead) (int, error) {
	if e.after--; e.after == 0 {
		e.end()
	}
	return e.Memory.ReadMany(reads)
}

// TestUntouched sees that a process that is read does not stop, is not traced and
// gets no signal.
func TestUntouched(t *testing.T) {
	prog := testenv.Start(t, testenv.BuildTarget(t, "still", testenv.Build{}))
	prog.WaitLine("held")
	before := strings.Join(prog.Ask("stack"), "\n")
	tgt := opened(t, prog.PID())
	for range 100 {
		take(t, tgt)
	}
	after := strings.Join(prog.Ask("stack"), "\n")
	if before != after {
		t.Errorf("the program's stacks before:\n%s\nafter:\n%s", before, after)
	}
}
