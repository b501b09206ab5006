package target

import (
	"encoding/binary"
	"errors"
	"fmt"

	"gopherscope/internal/gobinary"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/process"
)

// errMoved is an array of goroutines that was given up while it was read.
var errMoved = errors.New("the list of goroutines keeps moving")

// CountGoroutines counts the goroutines of a running Go process, those of the
// runtime included: the entries of runtime.allgs that are neither dead nor not
// yet born. It only reads memory and the process runs on meanwhile, so the
// count is that of no single moment. It is 0 before the runtime has started.
// Besides those of package process, the errors are ErrLayout and gobinary's.
func CountGoroutines(p *process.Process, bin *gobinary.File) (int, error) {
	g, err := bin.Struct("runtime.g")
	if err != nil {
		return 0, err
	}
	status, ok := g.Offset("atomicstatus")
	if !ok {
		return 0, fmt.Errorf("%w: runtime.g has no atomicstatus", ErrLayout)
	}
	allgs, err := bin.Allgs()
	if err != nil {
		return 0, err
	}
	t := &Target{Proc: p, Mem: p, Bin: bin}
	if t.Bias, err = p.LoadBias(Segments(bin)); err != nil {
		return 0, err
	}
	for range liveAttempts {
		n, err := t.countLive(allgs+t.Bias, status)
		if !errors.Is(err, errMoved) {
			return n, err
		}
	}
	return 0, errMoved
}

// countLive counts once. The array of allgs is only appended to, but to grow it
// the runtime moves it and leaves the old one to the garbage collector
// (runtime/proc.go, allgadd), so what was read counts only if the array is still
// in use afterwards. The goroutines themselves are never freed.
func (t *Target) countLive(allgs, status uint64) (int, error) {
	before, err := t.readWord(allgs)
	if err != nil {
		return 0, err
	}
	n, err := t.countIn(allgs, status)
	after, again := t.readWord(allgs)
	switch {
	case again != nil:
		return 0, again
	case before != after:
		return 0, errMoved
	}
	return n, err
}

func (t *Target) countIn(allgs, status uint64) (int, error) {
	gs, err := t.readAllgs(allgs, maxGoroutines)
	if err != nil {
		return 0, err
	}
	words := make([]byte, 4*len(gs))
	reads := make([]process.MemRead, len(gs))
	for i, g := range gs {
		reads[i] = process.MemRead{Addr: g + status, Buf: words[4*i : 4*i+4]}
	}
	if _, err := t.Mem.ReadMany(reads); err != nil {
		return 0, fmt.Errorf("read goroutines: %w", err)
	}
	n := 0
	for i := range gs {
		raw := binary.LittleEndian.Uint32(words[4*i:]) &^ goruntime.ScanBit
		s := goruntime.Status(raw)
		if raw > 0xff || !s.Valid() {
			return 0, fmt.Errorf("%w: goroutine at %#x has status %#x", ErrLayout, gs[i], raw)
		}
		switch s {
		case goruntime.Idle, goruntime.Dead, goruntime.DeadExtra:
		default:
			n++
		}
	}
	return n, nil
}
