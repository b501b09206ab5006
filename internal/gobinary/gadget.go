package gobinary

import (
	"bytes"
	"fmt"

	"golang.org/x/arch/x86/x86asm"
)

// SyscallRet is the address, as linked, of a SYSCALL followed by a RET, an
// instruction of the runtime's own (runtime.osyield has one): a place to which a
// thread can be sent to make a system call.
func (f *File) SyscallRet() (uint64, error) {
	return f.gadget("SYSCALL; RET", []byte{0x0f, 0x05, 0xc3}, nil)
}

// Sigreturn is the address, as linked, of the runtime's call of rt_sigreturn(2):
// MOVQ $15, AX; SYSCALL (runtime/sys_linux_amd64.s: sigreturn, since Go 1.21
// sigreturn__sigaction). A thread sent there takes its registers from the signal
// frame at its stack pointer.
func (f *File) Sigreturn() (uint64, error) {
	return f.gadget("rt_sigreturn", []byte{0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05}, []byte{0xb8, 15, 0, 0, 0, 0x0f, 0x05})
}

// gadget finds one of two sequences of whole instructions in package runtime.
func (f *File) gadget(name string, one, other []byte) (uint64, error) {
	if f.arch == ARM64 {
		return 0, fmt.Errorf("%s: %w", name, ErrNotYet)
	}
	for fn := range f.runtimeFuncs() {
		code, err := f.code(fn)
		if err != nil {
			return 0, err
		}
		for _, want := range [][]byte{one, other} {
			if len(want) > 0 && bytes.Contains(code, want) {
				if off, ok := x86Find(code, want); ok {
					return fn.Entry + uint64(off), nil
				}
			}
		}
	}
	return 0, fmt.Errorf("%s: %w", name, ErrNoSymbol)
}

// x86Find is the offset of the first instruction of code at which the bytes want are.
func x86Find(code, want []byte) (at int, found bool) {
	walkX86(code, func(off int, _ x86asm.Inst, sure bool) bool {
		if sure && bytes.HasPrefix(code[off:], want) {
			at, found = off, true
		}
		return !found
	})
	return at, found
}
