#include "textflag.h"

// func pass(entry, self uintptr, n int)
//
// R14 is Go's g and is given back before anybody looks: this function is not preempted,
// and a signal handler takes g from the thread (runtime/sys_linux_amd64.s, sigtramp).
TEXT ·pass(SB), NOSPLIT, $32-24
	MOVQ R14, saved-8(SP)
	MOVQ R13, saved-16(SP)
	MOVQ R12, saved-24(SP)
	MOVQ n+16(FP), BX
	MOVQ entry+0(FP), CX
	MOVQ self+8(FP), R14
loop:
	MOVL $(2<<8 | 3<<16), DX
	CALL CX
	DECQ BX
	JNZ  loop
	MOVQ saved-24(SP), R12
	MOVQ saved-16(SP), R13
	MOVQ saved-8(SP), R14
	RET

// func park(entry, self, gp uintptr, n int)
//
// What is said of pass holds. The templates leave AX, BX, CX and R15 as they are.
TEXT ·park(SB), NOSPLIT, $40-32
	MOVQ R14, saved-8(SP)
	MOVQ R13, saved-16(SP)
	MOVQ R12, saved-24(SP)
	MOVQ R15, saved-32(SP)
	MOVQ n+24(FP), AX
	MOVQ AX, left-40(SP)
	MOVQ entry+0(FP), R15
	MOVQ self+8(FP), R14
	MOVQ gp+16(FP), AX
	MOVL $2, BX // running
	MOVL $4, CX // waiting
loop:
	XORL DX, DX
	CALL R15
	DECQ left-40(SP)
	JNZ  loop
	MOVQ saved-32(SP), R15
	MOVQ saved-24(SP), R12
	MOVQ saved-16(SP), R13
	MOVQ saved-8(SP), R14
	RET
