package waiton

import (
	"context"
	"encoding/binary"
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"gopherscope/internal/dump"
	"gopherscope/internal/process"
	"gopherscope/internal/target"
)

// counted is a memory that counts the pieces that are read.
type counted struct {
	process.Memory
	reads int
}

func (c *counted) ReadMem(addr uint64, b []byte) error {
	c.reads++
	return c.Memory.ReadMem(addr, b)
}

func (c *counted) ReadMany(reads []process.MemRead) (int, error) {
	n, err := c.Memory.ReadMany(reads)
	c.reads += n
	return n, err
}

// ownMemory is n bytes of this process that do not move, and its memory as it is
// read from outside.
func ownMemory(t *testing.T, n int) ([]byte, uint64, *counted) {
	t.Helper()
	p, err := process.Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(b) })
	return b, uint64(uintptr(unsafe.Pointer(&b[0]))), &counted{Memory: p}
}

// sudogs is a layout of runtime.sudog.
var sudogs = target.SudogLayout{Size: 64, G: 0, Next: 8, Elem: 16, WaitLink: 24, Chan: 32, IsSelect: 40}

// condFinder is a finder with n goroutines that seem to wait on a condition each,
// whose lists are in memory: of condition k, from sudog head(k) on. The sudog of
// goroutine k is number k and leads to number next(k); -1 is the end.
func condFinder(t *testing.T, n int, head, next func(int) int) (*finder, *counted) {
	t.Helper()
	mem, base, counted := ownMemory(t, 128*n)
	sudog := func(k int) uint64 {
		if k < 0 {
			return 0
		}
		return base + 64*uint64(k)
	}
	put := binary.LittleEndian.PutUint64
	d := &dump.Dump{Goroutines: make([]dump.Goroutine, n)}
	f := newFinder(&target.Target{Mem: counted, Layout: target.Layout{Sudog: sudogs}}, d)
	for k := range n {
		d.Goroutines[k] = dump.Goroutine{ID: uint64(k + 1), Addr: 1<<40 + 512*uint64(k)}
		put(mem[64*k:], d.Goroutines[k].Addr)
		put(mem[64*k+8:], sudog(next(k)))
		put(mem[64*(n+k)+condHead:], sudog(head(k)))
		f.waiters = append(f.waiters, waiter{g: int32(k), object: -1, class: classCond, cond: sudog(n + k)})
	}
	return f, counted
}

// TestCondLists has conditions with one waiter each, whose lists are as they
// should be, lead through each other, or never end. It takes reads in proportion
// to the number of goroutines.
func TestCondLists(t *testing.T) {
	const n = 5000
	self := func(k int) int { return k }
	for _, tt := range []struct {
		name       string
		head, next func(int) int
		min, max   int // how many are found
	}{
		{"in order", self, func(int) int { return -1 }, n, n},
		{"each its own cycle", self, self, n, n},
		{"crossed", func(k int) int { return (k + 1) % n }, func(int) int { return -1 }, 0, 0},
		{"one chain", func(int) int { return 0 }, func(k int) int { return (k+2)%(n+1) - 1 }, 100, n},
		{"one cycle of the last two", func(int) int { return n - 2 }, func(k int) int { return 2*n - 3 - k }, 0, 2},
		{"one long cycle", func(k int) int { return (k + 1) % n }, func(k int) int { return (k + 1) % n }, 1, n},
	} {
		f, mem := condFinder(t, n, tt.head, tt.next)
		if err := f.findConds(context.Background()); err != nil {
			t.Fatal(err)
		}
		found := 0
		for i := range f.waiters {
			if w := &f.waiters[i]; w.cond == 0 {
				continue
			} else if s := f.sudogs[w.first]; w.n != 1 || s.g != f.d.Goroutines[w.g].Addr || f.objects[s.object].Addr != w.cond {
				t.Fatalf("%s: goroutine %d has sudog %+v", tt.name, i, s)
			}
			found++
		}
		if found < tt.min || found > tt.max || mem.reads > 4*n+chunkSize {
			t.Errorf("%s: found %d of %d, want %d to %d; %d reads", tt.name, found, n, tt.min, tt.max, mem.reads)
		}
	}
}

// semaFinder is a finder and n goroutines that wait for semaphores with the same
// stack. On top of each is a word that points to its sudog, as far as real says.
func semaFinder(t *testing.T, n int, stack dump.Stack, real func(int) bool) (*finder, []waiter, *counted) {
	t.Helper()
	mem, base, counted := ownMemory(t, 64*n)
	d := &dump.Dump{Goroutines: make([]dump.Goroutine, n), Stacks: []dump.Stack{{}, stack}}
	f := newFinder(&target.Target{Mem: counted, Layout: target.Layout{Sudog: sudogs}}, d)
	ws := make([]waiter, n)
	put := binary.LittleEndian.PutUint64
	for k := range ws {
		d.Goroutines[k] = dump.Goroutine{ID: uint64(k + 1), Addr: 1<<40 + 512*uint64(k), Stack: 1}
		sudog := mem[64*k:]
		put(sudog, d.Goroutines[k].Addr)
		if real(k) {
			put(sudog[16:], base) // what it waits for
		}
		top := make([]byte, 256)
		for at := 0; at < len(top); at += 8 {
			put(top[at:], base+64*uint64(k))
		}
		ws[k] = waiter{g: int32(k), object: -1, class: classSema, top: top, state: gState{sp: 1 << 46}}
	}
	return f, ws, counted
}

// lockStack is the stack of a goroutine that waits for a Mutex.
var lockStack = dump.Stack{Frames: []dump.Frame{
	{PC: 1, Func: "runtime.gopark"}, {PC: 2, Func: "runtime.semacquire1"}, {PC: 3, Func: "sync.(*Mutex).Lock"}, {PC: 4, Func: "main.main"},
}}

// TestSearchGivesUp searches stacks on which no sudog, or only few, are.
func TestSearchGivesUp(t *testing.T) {
	const n = 2000
	for _, tt := range []struct {
		name         string
		real         func(int) bool
		found, reads int
	}{
		{"none", func(int) bool { return false }, 0, 32 * maxMisses},
		{"all", func(int) bool { return true }, n, 32 + n},
		{"those after a few", func(k int) bool { return k >= maxMisses-1 }, n - maxMisses + 1, 32*maxMisses + n},
	} {
		f, ws, mem := semaFinder(t, n, lockStack, tt.real)
		if err := f.searchSemas(ws); err != nil {
			t.Fatal(err)
		}
		if len(f.sudogs) != tt.found || mem.reads > tt.reads {
			t.Errorf("%s: found %d of %d, want %d; %d reads, want %d", tt.name, len(f.sudogs), n, tt.found, mem.reads, tt.reads)
		}
	}
}

// TestUnknownSemaphore has stacks that do not tell whose the semaphore is.
func TestUnknownSemaphore(t *testing.T) {
	const n = 3
	whole := dump.Stack{Frames: lockStack.Frames[:2]}
	for _, tt := range []struct {
		name  string
		stack dump.Stack
		kind  dump.ObjectKind // KindChan, the zero kind: unknown
	}{
		{"no stack", dump.Stack{}, 0},
		{"cut in the runtime", dump.Stack{Frames: lockStack.Frames[:2], Cut: true}, 0},
		{"cut in package sync", dump.Stack{Frames: lockStack.Frames[:3], Cut: true}, 0},
		{"cut in the program", dump.Stack{Frames: lockStack.Frames, Cut: true}, dump.KindMutex},
		{"all of the runtime", whole, dump.KindSemaphore},
	} {
		for _, chained := range []bool{false, true} { // in g.waiting, as from Go 1.26 on
			f, ws, _ := semaFinder(t, n, tt.stack, func(int) bool { return true })
			if chained {
				for i := range ws {
					ws[i].state.waiting = binary.LittleEndian.Uint64(ws[i].top)
				}
				if err := f.followWaiting(ws); err != nil {
					t.Fatal(err)
				}
			}
			if err := f.searchSemas(ws); err != nil {
				t.Fatal(err)
			}
			f.nameObjects(ws)
			f.waiters = ws
			w := f.result()
			switch {
			case tt.kind == 0 && (w.Unknown != n || len(w.Objects) != 0):
				t.Errorf("%s: %d unknown, objects %+v", tt.name, w.Unknown, w.Objects)
			case tt.kind != 0 && (w.Unknown != 0 || len(w.Objects) != 1 || w.Objects[0].Kind != tt.kind):
				t.Errorf("%s: %d unknown, objects %+v, want a %s", tt.name, w.Unknown, w.Objects, tt.kind)
			}
		}
	}
}
