package perf

import "gopherscope/internal/snapshot"

// The bits of the registers in sample_regs_user; records have them in ascending
// order (arch/x86/include/uapi/asm/perf_regs.h, enum perf_event_x86_regs).
const (
	regBP  = 6
	regSP  = 7
	regIP  = 8
	regR14 = 22 // holds the current g (cmd/compile/abi-internal.md)

	userRegs  = 1<<regBP | 1<<regSP | 1<<regIP | 1<<regR14
	nUserRegs = 4
)

// setRegs takes the registers from a record.
func setRegs(s *snapshot.Sample, regs [nUserRegs]uint64) {
	s.BP, s.SP, s.PC, s.G = regs[0], regs[1], regs[2], regs[3]
}
