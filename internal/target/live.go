package target

import (
	"encoding/binary"
	"fmt"

	"gopherscope/internal/goruntime"
)

// Bounds on what the memory of a live process may say. A value beyond one is
// not believed.
const (
	maxGoroutines = 1 << 28
	maxGoID       = 1 << 56
	checkedGs     = 512 // how many goroutines the check looks at
	liveAttempts  = 5   // how often it looks again before it refuses
)

// checkLive reads goroutines of the running process through the layout and
// refuses when they make no sense: a status out of range, an absurd or repeated
// goid, a running goroutine that its thread does not know. The process runs on
// meanwhile, so a goroutine can change between two reads; the check repeats
// until one pass is clean. A process whose runtime has not started has no
// goroutines and passes.
func (t *Target) checkLive() error {
	addr, err := t.Bin.Allgs()
	if err != nil {
		return fmt.Errorf("find allgs: %w", err)
	}
	for range liveAttempts {
		if err = t.checkGoroutines(addr + t.Bias); err == nil {
			return nil
		}
	}
	return err
}

func (t *Target) checkGoroutines(allgs uint64) error {
	gs, err := t.readAllgs(allgs, checkedGs)
	if err != nil {
		return err
	}
	seen := map[uint64]bool{}
	buf := make([]byte, t.Layout.G.Size)
	for _, addr := range gs {
		if err := t.Mem.ReadMem(addr, buf); err != nil {
			return fmt.Errorf("%w: goroutine at %#x: %w", ErrLayout, addr, err)
		}
		if err := t.checkG(addr, buf, seen); err != nil {
			return err
		}
	}
	return nil
}

// allgsHead reads where the array of the slice runtime.allgs is, and how many
// entries the slice claims to have.
func (t *Target) allgsHead(addr uint64) (ptr, n uint64, err error) {
	var head [16]byte
	if err := t.Mem.ReadMem(addr, head[:]); err != nil {
		return 0, 0, fmt.Errorf("read allgs: %w", err)
	}
	ptr, n = binary.LittleEndian.Uint64(head[:]), binary.LittleEndian.Uint64(head[8:])
	if n > maxGoroutines {
		return 0, 0, fmt.Errorf("%w: allgs has %d entries", ErrLayout, n)
	}
	return ptr, n, nil
}

// readAllgs reads at most limit pointers of the slice runtime.allgs.
func (t *Target) readAllgs(addr uint64, limit int) ([]uint64, error) {
	ptr, n, err := t.allgsHead(addr)
	if err != nil {
		return nil, err
	}
	buf := make([]byte, 8*min(int(n), limit))
	if len(buf) == 0 {
		return nil, nil
	}
	if err := t.Mem.ReadMem(ptr, buf); err != nil {
		return nil, fmt.Errorf("read allgs: %w", err)
	}
	gs := make([]uint64, len(buf)/8)
	for i := range gs {
		gs[i] = binary.LittleEndian.Uint64(buf[8*i:])
	}
	return gs, nil
}

// checkG looks at one goroutine, whose struct was read into g.
func (t *Target) checkG(addr uint64, g []byte, seen map[uint64]bool) error {
	l := &t.Layout.G
	word := func(off uint32) uint64 {
		if int(off)+8 > len(g) {
			return 0
		}
		return binary.LittleEndian.Uint64(g[off:])
	}
	raw := uint32(word(l.Status))
	status := goruntime.Status(raw &^ goruntime.ScanBit)
	if raw&^goruntime.ScanBit > 255 || !status.Valid() {
		return fmt.Errorf("%w: goroutine at %#x has status %#x", ErrLayout, addr, raw)
	}
	if status == goruntime.Dead || status == goruntime.Idle || status == goruntime.DeadExtra {
		return nil
	}
	goid := word(l.GoID)
	if goid == 0 && status == goruntime.Runnable && t.Bin.Version().Minor < 24 {
		return nil // just being born: before Go 1.24 the goid comes after the status
	}
	if goid == 0 || goid > maxGoID || seen[goid] {
		return fmt.Errorf("%w: goroutine at %#x is %s and has goid %d", ErrLayout, addr, status, goid)
	}
	seen[goid] = true
	if lo, hi := word(l.StackLo), word(l.StackHi); lo >= hi {
		return fmt.Errorf("%w: goroutine %d has a stack from %#x to %#x", ErrLayout, goid, lo, hi)
	}
	if status == goruntime.Running {
		return t.checkRunning(addr, goid, word(l.M))
	}
	return nil
}

// checkRunning compares g.m.curg with the running goroutine g at addr. When
// they differ because the goroutine has moved on meanwhile, that is no fault.
func (t *Target) checkRunning(addr, goid, m uint64) error {
	curg, err := t.readWord(m + uint64(t.Layout.M.CurG))
	if err != nil {
		return fmt.Errorf("%w: thread of running goroutine %d: %w", ErrLayout, goid, err)
	}
	if curg == addr {
		return nil
	}
	status, err1 := t.readWord(addr + uint64(t.Layout.G.Status))
	now, err2 := t.readWord(addr + uint64(t.Layout.G.M))
	if err1 != nil || err2 != nil || uint32(status)&^goruntime.ScanBit != uint32(goruntime.Running) || now != m {
		return nil
	}
	return fmt.Errorf("%w: goroutine %d at %#x is running, but its thread runs the one at %#x", ErrLayout, goid, addr, curg)
}

func (t *Target) readWord(addr uint64) (uint64, error) {
	var b [8]byte
	err := t.Mem.ReadMem(addr, b[:])
	return binary.LittleEndian.Uint64(b[:]), err
}
