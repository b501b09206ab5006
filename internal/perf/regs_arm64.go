package perf

import "gopherscope/internal/snapshot"

// The bits of the registers in sample_regs_user; records have them in ascending
// order (arch/arm64/include/uapi/asm/perf_regs.h, enum perf_event_arm_regs).
const (
	regX28 = 28 // holds the current g (cmd/compile/abi-internal.md)
	regX29 = 29 // the frame pointer
	regLR  = 30
	regSP  = 31
	regPC  = 32

	userRegs  = 1<<regX28 | 1<<regX29 | 1<<regLR | 1<<regSP | 1<<regPC
	nUserRegs = 5
)

// setRegs takes the registers from a record.
func setRegs(s *snapshot.Sample, regs [nUserRegs]uint64) {
	s.G, s.BP, s.LR, s.SP, s.PC = regs[0], regs[1], regs[2], regs[3], regs[4]
}
