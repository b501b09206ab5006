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

// allgsPiece is how many entries of allgs are read at once. The array is read in
// such pieces, so that memory does not go with a length that may be absurd.
const allgsPiece = 64 << 10

func (t *Target) countIn(allgs, status uint64) (int, error) {
	ptr, n, err := t.allgsHead(allgs)
	if err != nil {
		return 0, err
	}
	size := min(n, allgsPiece)
	buf, words := make([]byte, 8*size), make([]byte, 4*size)
	reads := make([]process.MemRead, 0, size)
	count := 0
	for done := uint64(0); done < n; done += size {
		piece := buf[:8*min(size, n-done)]
		if err := t.Mem.ReadMem(ptr+8*done, piece); err != nil {
			return 0, fmt.Errorf("read allgs: %w", err)
		}
		reads = reads[:0]
		for ; len(piece) > 0; piece = piece[8:] {
			if g := binary.LittleEndian.Uint64(piece); g != 0 {
				k := 4 * len(reads)
				reads = append(reads, process.MemRead{Addr: g + status, Buf: words[k : k+4]})
			}
		}
		more, err := t.countBorn(reads, status)
		if err != nil {
			return 0, err
		}
		count += more
	}
	return count, nil
}

// countBorn reads the statuses of some goroutines and counts those that are
// neither dead nor not yet born.
func (t *Target) countBorn(statuses []process.MemRead, status uint64) (int, error) {
	if len(statuses) == 0 {
		return 0, nil
	}
	if _, err := t.Mem.ReadMany(statuses); err != nil {
		return 0, fmt.Errorf("read goroutines: %w", err)
	}
	n := 0
	for _, r := range statuses {
		raw := binary.LittleEndian.Uint32(r.Buf) &^ goruntime.ScanBit
		s := goruntime.Status(raw)
		if raw > 0xff || !s.Valid() {
			return 0, fmt.Errorf("%w: goroutine at %#x has status %#x", ErrLayout, r.Addr-status, raw)
		}
		switch s {
		case goruntime.Idle, goruntime.Dead, goruntime.DeadExtra:
		default:
			n++
		}
	}
	return n, nil
}
