// SPDX-License-Identifier: MIT
// The code that runs in the target: one record for every change of a goroutine's
// status. It reports what the programs of the ebpf engine (bpf/gtrace.bpf.c) do,
// without the kernel.
//
// How it is entered. Most sites are a `CALL runtime.casgstatus` or the like, whose
// distance has been changed so that it reaches a stub: `mov $cookie, %edx` and a
// jmp to a template here, which ends with a jmp to the function that was to be
// called. So the stack is what it is at that function's entry, with Go's own return
// address on it, and nothing is ever pushed. The other sites (in exitsyscall, in
// coroswitch_m, after a call of newproc1) are a jmp written over whole instructions;
// there the template ends with a jmp to a copy of those, which ends with one back.
//
// Which registers are free. Go's internal ABI (cmd/compile/abi-internal.md, Go 1.17)
// has no callee-saved registers. Where the templates are entered there live: the
// arguments (AX, BX, CX of the functions concerned) or, after a call, the result
// (AX); SP, BP, R14 (g), R15 (the GOT in -dynlink code), X15 (zero). DX is the
// context of a closure, which none of these functions is. So DX, SI, DI, R8 to R13
// and the flags may be used. AX is written by BEGIN and where a stack is walked only. It is kept in R13
// from the second instruction of a template to the last, so a thread can be moved out
// of a template at any instruction: AX = R13, PC = where the template ends.
//
// Why nothing here faults. What is read are the runtime's own structs: the g in R14
// or in an argument, its m (never nil while it runs), m.curg and m.p (looked at once
// and tested; another thread may take a P away, but no P is ever freed), the coro
// and its g (tested). The ring is ours and stays mapped while a thread can be here.
//
// Why the order is right. The record is published by the store to HEAD, which x86
// keeps behind the stores of the record (TSO), and before the compare-and-swap of
// the function that follows. Who sees the new status can see the record.
//
// Names in capitals that no #define gives are symbols without a definition: link.go gives
// them values, for each place where a template ends (EXIT) a copy of its own.

#include "record_amd64.h"
#include "stack_amd64.h"

// CHANGE is what casgstatus is called for: r8d = from | to<<4, edx = from.
	.macro CHANGE
	movl	%ebx, %edx
	andl	$STATUS, %edx
	movl	%ecx, %r8d
	andl	$STATUS, %r8d
	shll	$4, %r8d
	orl	%edx, %r8d
	.endm

// cas: at a call of casgstatus, casGToPreemptScan or casGFromPreempted. AX is the
// goroutine, BX the old status, CX the new one. From Go 1.24 on, the change of a
// dead g is its birth; the change of one that was just allocated says nothing.
	.section .text.cas, "ax", @progbits
	BEGIN	2
	CHANGE
	cmpl	$(G_DEAD | G_RUNNABLE << 4), %r8d
	je	8f
	cmpl	$(G_DEAD | G_WAITING << 4), %r8d
	je	8f
	cmpl	$G_IDLE, %edx
	je	EXIT
	WHERE	%rsi
	GOROUTINE %rax, %rsi
	xorl	%edi, %edi
	testl	$FLAG_WAKER, %r10d
	jz	7f
	CURRENT	%rdi
7:	movq	%rdi, R_OTHER(%rsi)
	PUBLISH	1
8:	BORN	%rax

// park: cas in park_m, with the stack of the goroutine that parks behind it. R_OTHER says
// how many program counters follow. park_m runs on g0, and the goroutine has just been
// saved by mcall: its registers are in g.sched, and nobody else looks at its stack until
// the status is changed.
	.section .text.park, "ax", @progbits
	BEGIN	(1 + DEPTH / 4)
	CHANGE
	WHERE	%rsi
	GOROUTINE %rax, %rsi
	movq	$0, R_OTHER(%rsi)
	cmpl	$((G_RUNNING | G_WAITING << 4) << 8), %r8d // WHERE has shifted it
	jne	9f
	movl	SPARE(%rip), %edi
	movq	%rdi, R_OTHER(%rsi)
	testl	%edi, %edi
	jnz	9f
	movq	G_SCHEDBP(%rax), %r8
	movq	G_STACKLO(%rax), %r9
	movq	G_STACKHI(%rax), %r10
	subq	$16, %r10
	movq	G_SCHEDPC(%rax), %rax
	leaq	1(%r12), %rdi
	subq	BASE(%r11), %rdi
	shlq	$RECORD_SHIFT, %rdi
	jmp	7f
	WALK
9:	PUBLISH	1

// casborn: cas in newproc1 from Go 1.24 on, with the parent's stack at a birth.
	.section .text.casborn, "ax", @progbits
	BEGIN	(2 + DEPTH / 4)
	CHANGE
	cmpl	$(G_DEAD | G_RUNNABLE << 4), %r8d
	je	9f
	cmpl	$(G_DEAD | G_WAITING << 4), %r8d
	je	9f
	cmpl	$G_IDLE, %edx
	je	EXIT
	WHERE	%rsi
	GOROUTINE %rax, %rsi
	movq	$0, R_OTHER(%rsi)
	PUBLISH	1
9:	BORNAT	%rax

// block: cas in entersyscallblock, where a goroutine runs on its own stack.
	.section .text.block, "ax", @progbits
	BEGIN	(1 + DEPTH / 4)
	CHANGE
	ENTERS
	CALLER

// birth0, birth1: after newproc1 has returned and before anybody else can see the
// new goroutine, which is the result or first argument (AX) or the second one (BX).
// For Go 1.18 to 1.23, where newproc1 sets g.goid after casgstatus. The status is
// set: waiting is that of a coroutine.
	.macro NEWBORN gp
	movl	G_STATUS(\gp), %edx
	andl	$STATUS, %edx
	movl	$(G_DEAD | G_RUNNABLE << 4), %r8d
	movl	$(G_DEAD | G_WAITING << 4), %edi
	cmpl	$G_WAITING, %edx
	cmovel	%edi, %r8d
	.endm
	.macro BIRTH gp
	BEGIN	2
	NEWBORN	\gp
	BORN	\gp
	.endm
	.section .text.birth0, "ax", @progbits
	BIRTH	%rax
	.section .text.birth1, "ax", @progbits
	BIRTH	%rbx

// birthat0, birthat1: the same with the parent's stack.
	.macro BIRTHAT gp
	BEGIN	(2 + DEPTH / 4)
	NEWBORN	\gp
	BORNAT	\gp
	.endm
	.section .text.birthat0, "ax", @progbits
	BIRTHAT	%rax
	.section .text.birthat1, "ax", @progbits
	BIRTHAT	%rbx

// selfg, self0: at a call of a function that will make one known change, the
// cookie's, of the current g or of its first argument.
	.macro KNOWN
	movl	%r10d, %r8d
	shrl	$8, %r8d
	andl	$STATUS, %r8d
	movl	%r10d, %edx
	shrl	$(16 - 4), %edx
	andl	$(STATUS << 4), %edx
	orl	%edx, %r8d
	.endm
	.macro SELF gp
	BEGIN	1
	KNOWN
	WHERE	%rsi
	GOROUTINE \gp, %rsi
	movq	$0, R_OTHER(%rsi)
	PUBLISH	1
	.endm
	.section .text.selfg, "ax", @progbits
	SELF	%r14
	.section .text.self0, "ax", @progbits
	SELF	%rax

// enter: selfg at a call by which a system call or a cgo call begins, with the stack.
	.section .text.enter, "ax", @progbits
	BEGIN	(1 + DEPTH / 4)
	KNOWN
	ENTERS
	CALLER

// entersys: the same in entersyscall, whose frame RBP is. The first program counter is that of
// its caller. That may be a function without a frame (syscall.Syscall of Go 1.18, assembly):
// then the word above is where it returns to, in the function whose frame pointer
// entersyscall has saved. The reader knows which functions have a frame and drops the
// word where it is none, so it is always the second one.
	.section .text.entersys, "ax", @progbits
	BEGIN	(1 + DEPTH / 4)
	KNOWN
	ENTERS
	cmpq	%r9, %r8
	jb	9f
	leaq	-8(%r10), %rdx
	cmpq	%rdx, %r8
	ja	9f
	movq	%rdi, %rdx
	andl	$RING_BYTES_MASK, %edx
	addq	DATA(%r11), %rdx
	movq	8(%r8), %rax
	movq	%rax, (%rdx)
	movq	16(%r8), %rax
	movq	%rax, 8(%rdx)
	addq	$16, %rdi
	movq	$2, R_OTHER(%rsi)
	movq	(%r8), %rdx
	cmpq	%r8, %rdx
	movq	%rdx, %r8
	ja	6f
	jmp	8f
	WALK
9:	PUBLISH	1

// switch: in coroswitch_m, which hands the thread from a coroutine to its other half
// without the scheduler. AX is the goroutine that leaves, g.coroarg.gp the one that
// comes. One that ends (g.coroexit) is reported by gdestroy.
	.section .text.switch, "ax", @progbits
	BEGIN	2
	movq	G_COROARG(%rax), %rdi
	testq	%rdi, %rdi
	jz	EXIT
	movq	CORO_GP(%rdi), %rdi
	testq	%rdi, %rdi
	jz	EXIT
	cmpb	$0, G_COROEXIT(%rax)
	jne	7f
	movl	$(G_RUNNING | G_WAITING << 4), %r8d
	WHERE	%rsi
	GOROUTINE %rax, %rsi
	movq	$0, R_OTHER(%rsi)
	movq	R_TSC(%rsi), %rdi
	SECOND	%rsi
	movq	%rdi, R_TSC(%rsi)
	incq	%r12
7:	movl	$(G_WAITING | G_RUNNING << 4), %r8d
	WHERE	%rsi
	movq	G_COROARG(%rax), %rdx
	movq	CORO_GP(%rdx), %r8
	GOROUTINE %r8, %rsi
	movq	$0, R_OTHER(%rsi)
	PUBLISH	1
