package target

import (
	"encoding/binary"

	"gopherscope/internal/process"
)

// maxProcs is more than any GOMAXPROCS that is believed.
const maxProcs = 1 << 16

// Procs is the process's GOMAXPROCS: the length of runtime.allp, which procresize keeps
// equal to it (runtime/proc.go, Go 1.18 to 1.27). It is believed only if every entry is a P
// that has its own index as its id, and the slice is the same afterwards. Otherwise it is 0:
// before the runtime has started, while it changes, without a process, or where the binary
// does not show the variable.
func (t *Target) Procs() int {
	if t.Mem == nil {
		return 0
	}
	addr, err := t.Bin.Allp()
	if err != nil {
		return 0
	}
	var head, again [16]byte
	if t.Mem.ReadMem(addr+t.Bias, head[:]) != nil {
		return 0
	}
	array, n := binary.LittleEndian.Uint64(head[:]), binary.LittleEndian.Uint64(head[8:])
	if n == 0 || n > maxProcs {
		return 0
	}
	pointers, ids := make([]byte, 8*n), make([]byte, 4*n)
	if t.Mem.ReadMem(array, pointers) != nil {
		return 0
	}
	reads := make([]process.MemRead, n)
	for i := range reads {
		p := binary.LittleEndian.Uint64(pointers[8*i:])
		reads[i] = process.MemRead{Addr: p + uint64(t.Layout.P.ID), Buf: ids[4*i : 4*i+4]}
	}
	if _, err := t.Mem.ReadMany(reads); err != nil {
		return 0
	}
	for i := range reads {
		if int(binary.LittleEndian.Uint32(ids[4*i:])) != i {
			return 0
		}
	}
	if t.Mem.ReadMem(addr+t.Bias, again[:]) != nil || again != head {
		return 0
	}
	return int(n)
}
