package ptrace

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// The signal frame that the kernel builds on the stack of a handler: struct
// rt_sigframe (arch/x86/include/asm/sigframe.h), which is a return address, struct
// ucontext (include/uapi/asm-generic/ucontext.h) and siginfo. In it, struct sigcontext_64
// (arch/x86/include/uapi/asm/sigcontext.h) has the interrupted registers.
const (
	frameFlags    = 8  // uc_flags
	frameStack    = 24 // uc_stack: sp, flags, size
	frameRegs     = 48 // uc_mcontext: R8 to R15, DI, SI, BP, BX, DX, AX, CX, SP, IP, flags
	frameIP       = frameRegs + 16*8
	frameCS       = frameIP + 2*8
	frameSS       = frameCS + 6
	frameFPU      = frameCS + 5*8 // address of the FPU's state
	frameMask     = frameRegs + 256
	frameBytes    = frameMask + 8
	userCS        = 0x33
	userSS        = 0x2b
	handlerSearch = 64 << 10
)

// ReturnsInto lists the threads that run a signal handler which will return to an
// address in r, so that the code there must stay. text is the program's Go code.
//
// The frame lies above the handler's stack pointer, on the same stack. Go's
// handlers run on a stack of 32 KiB (runtime/os_linux.go, mpreinit), so twice that is
// searched. Whatever 8 bytes hold an address in r, with the user code segment
// where the frame has it, are taken for a frame: nothing else puts addresses in r on a
// stack, as the code there makes no call.
//
// A thread that executes Go code, or the code in r, with SIGURG unblocked is in no
// handler: Go installs its handlers with all signals blocked (runtime/os_linux.go,
// setsig), and C handlers do not call Go. It is left out because memory above its stack
// pointer may be another's old signal stack. A false alarm costs the caller another attempt.
func (s *Stopped) ReturnsInto(pid int, r, text Range) []int {
	var hits []int
	buf := make([]byte, handlerSearch)
	for _, t := range s.Threads {
		if (text.Contains(t.Regs.Rip) || r.Contains(t.Regs.Rip)) && t.Mask&(1<<(unix.SIGURG-1)) == 0 {
			continue
		}
		if frameReturns(readUpTo(pid, t.Regs.Rsp&^7, buf), r) {
			hits = append(hits, t.TID)
		}
	}
	return hits
}

// frameReturns looks for a frame in the memory above a stack pointer.
func frameReturns(b []byte, r Range) bool {
	for i := 0; i+frameCS-frameIP+2 <= len(b); i += 8 {
		if r.Contains(binary.LittleEndian.Uint64(b[i:])) && binary.LittleEndian.Uint16(b[i+frameCS-frameIP:]) == userCS {
			return true
		}
	}
	return false
}

// readUpTo reads memory as far as there is any.
func readUpTo(pid int, addr uint64, b []byte) []byte {
	const page = 4096
	var remote []unix.RemoteIovec
	for at, end := addr, addr+uint64(len(b)); at < end; {
		n := min(page-at%page, end-at)
		remote = append(remote, unix.RemoteIovec{Base: uintptr(at), Len: int(n)})
		at += n
	}
	local := []unix.Iovec{{Base: &b[0], Len: uint64(len(b))}}
	n, err := unix.ProcessVMReadv(pid, local, remote, 0)
	if err != nil {
		return nil
	}
	return b[:n]
}
