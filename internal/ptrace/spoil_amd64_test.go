package ptrace_test

import (
	"golang.org/x/sys/unix"

	"gopherscope/internal/ptrace"
)

// wrongRegister is WRONG_GPR of the C program.
const wrongRegister = 1

// spoil changes a register that only the program's watch uses: R15 while it is in it, as
// its other code does not keep that value there.
func spoil(p *prog) error {
	return ptrace.Run(func() error {
		s, err := ptrace.StopAll(p.PID(), limit)
		if err != nil {
			return err
		}
		defer s.Release()
		for _, th := range s.Threads {
			const watched = 0x0f0f0f0f0f0f0f0f ^ 0xa5a5000000005a5a // gpr[14]
			if th.TID == p.PID() && th.Regs.R15 == watched && th.Regs.Rip > p.spin.Lo && th.Regs.Rip < p.spin.Lo+8192 {
				th.Regs.R15 ^= 1
				return unix.PtraceSetRegs(th.TID, &th.Regs)
			}
		}
		return nil
	})
}
