package target

import (
	"encoding/binary"
	"fmt"

	"gopherscope/internal/gobinary"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/process"
)

// CountGoroutines counts the goroutines of a running Go process, those of the
// runtime included. It only reads memory; the process runs on meanwhile.
func CountGoroutines(p *process.Process, bin *gobinary.File) (int, error) {
	g, err := bin.Struct("runtime.g")
	if err != nil {
		return 0, err
	}
	status, ok := g.Offset("atomicstatus")
	if !ok {
		return 0, fmt.Errorf("%w: runtime.g has no atomicstatus", ErrLayout)
	}
	addr, err := bin.Allgs()
	if err != nil {
		return 0, err
	}
	t := &Target{Proc: p, Bin: bin}
	if t.Bias, err = p.LoadBias(segments(bin)); err != nil {
		return 0, err
	}
	gs, err := t.readAllgs(addr+t.Bias, maxGoroutines)
	if err != nil {
		return 0, err
	}
	words := make([]byte, 4*len(gs))
	reads := make([]process.MemRead, len(gs))
	for i, g := range gs {
		reads[i] = process.MemRead{Addr: g + status, Buf: words[4*i : 4*i+4]}
	}
	if _, err := p.ReadMany(reads); err != nil {
		return 0, fmt.Errorf("read goroutines: %w", err)
	}
	n := 0
	for i := range gs {
		switch goruntime.Status(binary.LittleEndian.Uint32(words[4*i:]) &^ goruntime.ScanBit) {
		case goruntime.Idle, goruntime.Dead, goruntime.DeadExtra:
		default:
			n++
		}
	}
	return n, nil
}
