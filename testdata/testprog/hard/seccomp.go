package main

import (
	"syscall"
	"unsafe"
)

// Numbers of x86-64 and of include/uapi/linux/{audit,bpf_common,prctl,seccomp}.h.
const (
	sysSeccomp     = 317
	sysMemfdCreate = 319
	sysMmap        = 9
	sysMprotect    = 10

	prSetNoNewPrivs = 38
	setModeFilter   = 1
	tsync           = 1

	kill  = 0x80000000 // the process
	allow = 0x7fff0000

	loadWord = 0x20 // BPF_LD | BPF_W | BPF_ABS
	ifEqual  = 0x15 // BPF_JMP | BPF_JEQ | BPF_K
	ifAnyBit = 0x45 // BPF_JMP | BPF_JSET | BPF_K
	ret      = 0x06 // BPF_RET | BPF_K

	offNr, offArg2 = 0, 32 // of struct seccomp_data
)

type insn struct {
	code   uint16
	jt, jf uint8
	k      uint32
}

// forbid makes the kernel kill the process if any of its threads makes a memfd or executable
// memory.
func forbid() {
	filter := []insn{
		{loadWord, 0, 0, offNr},
		{ifEqual, 5, 0, sysMemfdCreate},
		{ifEqual, 1, 0, sysMmap},
		{ifEqual, 0, 2, sysMprotect},
		{loadWord, 0, 0, offArg2},
		{ifAnyBit, 1, 0, syscall.PROT_EXEC},
		{ret, 0, 0, allow},
		{ret, 0, 0, kill},
	}
	prog := struct {
		n      uint16
		filter *insn
	}{uint16(len(filter)), &filter[0]}
	// Only this thread need give its privileges up: that of the others follows with TSYNC.
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, prSetNoNewPrivs, 1, 0, 0, 0, 0); errno != 0 {
		wrong("prctl: %v", errno)
	}
	if r, _, errno := syscall.RawSyscall(sysSeccomp, setModeFilter, tsync, uintptr(unsafe.Pointer(&prog))); errno != 0 || r != 0 {
		wrong("seccomp: %d %v", r, errno)
	}
}

// forbidden does what the filter kills for.
func forbidden() {
	_, err := syscall.Mmap(-1, 0, 4096, syscall.PROT_READ|syscall.PROT_EXEC, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	wrong("the filter let it be: %v", err)
}
