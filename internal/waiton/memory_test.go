package waiton_test

import (
	"context"
	"encoding/binary"
	"runtime"
	"testing"
	"time"

	"gopherscope/internal/dump"
	"gopherscope/internal/process"
	"gopherscope/internal/snapshot"
	"gopherscope/internal/target"
	"gopherscope/internal/testenv"
	"gopherscope/internal/waiton"
)

// liar is the memory of a process in which some words are others when they are read. Each
// lie is four bytes: how many words are read before it, which lie, and an operand.
type liar struct {
	process.Memory
	lies []byte
	skip int
}

func (l *liar) ReadMem(addr uint64, b []byte) error {
	err := l.Memory.ReadMem(addr, b)
	l.change(b, addr)
	return err
}

func (l *liar) ReadMany(reads []process.MemRead) (int, error) {
	n, err := l.Memory.ReadMany(reads)
	for _, r := range reads[:n] {
		l.change(r.Buf, r.Addr)
	}
	return n, err
}

func (l *liar) change(b []byte, addr uint64) {
	for len(l.lies) >= 4 {
		if 8*l.skip+8 > len(b) {
			l.skip -= len(b) / 8
			return
		}
		at := b[8*l.skip:]
		word, operand := binary.LittleEndian.Uint64(at), uint64(l.lies[3])
		lies := [...]uint64{
			0, ^uint64(0), 1 << 40, 1 << 63, operand, word + operand, word - operand, word << (operand & 63), word ^ 1<<(operand&63),
			addr, addr + 8*operand, // a structure that is its own successor, or near it
		}
		binary.LittleEndian.PutUint64(at, lies[int(l.lies[2])%len(lies)])
		l.next()
	}
}

func (l *liar) next() {
	l.lies = l.lies[4:]
	if len(l.lies) >= 4 {
		l.skip += 1 + int(binary.LittleEndian.Uint16(l.lies))
	}
}

// FuzzMemory looks for what goroutines wait on in a memory that lies. The end comes soon,
// and what is found refers to goroutines of the Dump.
func FuzzMemory(f *testing.F) {
	testenv.RequireRoot(f)
	prog := testenv.StartEnv(f, []string{"GODEBUG=asynctimerchan=0"}, testenv.BuildTarget(f, "waiton", testenv.Build{}))
	prog.WaitLine("held")
	p, err := process.Open(prog.PID())
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { p.Close() })
	tgt, err := target.Open(p)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { tgt.Close() })
	d, err := snapshot.Take(context.Background(), tgt, &snapshot.Options{Stacks: true})
	if err != nil {
		f.Fatal(err)
	}
	honest := tgt.Mem
	for lie := range byte(11) {
		f.Add([]byte{1, 0, lie, 8})
		f.Add([]byte{200, 1, lie, 8, 100, 0, lie, 16, 0, 1, lie, 63, 0, 4, lie, 1})
	}
	f.Fuzz(func(t *testing.T, lies []byte) {
		lying := *tgt
		l := &liar{Memory: honest, lies: lies}
		if len(lies) >= 4 {
			l.skip = int(binary.LittleEndian.Uint16(lies))
		}
		lying.Mem = l
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		began := time.Now()
		w, err := waiton.Find(context.Background(), &lying, d)
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("took %v", took)
		}
		if runtime.ReadMemStats(&after); after.TotalAlloc-before.TotalAlloc > 256<<20 {
			t.Errorf("allocated %d MB", (after.TotalAlloc-before.TotalAlloc)>>20)
		}
		if err == nil {
			checkWithin(t, d, w)
		}
	})
}

// checkWithin follows every reference from w to d.
func checkWithin(t *testing.T, d *dump.Dump, w *dump.Waiting) {
	t.Helper()
	within := func(g int32) {
		if g < 0 || int(g) >= len(d.Goroutines) {
			t.Errorf("refers to goroutine %d of %d", g, len(d.Goroutines))
		}
	}
	for i := range w.Objects {
		o := &w.Objects[i]
		for _, one := range o.Waiters {
			within(one.G)
		}
		for _, ref := range o.Refs {
			within(ref.G)
		}
		if len(o.Waiters) == 0 {
			t.Errorf("object %#x has no waiters", o.Addr)
		}
	}
	if w.Waiters+w.Moved+w.Unknown > len(d.Goroutines) {
		t.Errorf("%d wait, %d moved, %d unknown, of %d", w.Waiters, w.Moved, w.Unknown, len(d.Goroutines))
	}
}
