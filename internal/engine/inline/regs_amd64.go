package inline

import (
	"encoding/binary"

	"gopherscope/internal/ptrace"
)

func putWord(b []byte, v uint64) { binary.LittleEndian.PutUint64(b, v) }

func programCounter(t *ptrace.Thread) uint64 { return t.Regs.Rip }

func setProgramCounter(t *ptrace.Thread, pc uint64) error {
	t.Regs.Rip = pc
	return t.Write()
}

// moveOut sends a thread that stands in a span of the code to where it would go on
// without it: see asm/probe_amd64.S for AX.
func moveOut(t *ptrace.Thread, s place) error {
	if s[3] != 0 && t.Regs.Rip > s[0] {
		t.Regs.Rax = t.Regs.R13
	}
	return setProgramCounter(t, s[2])
}
