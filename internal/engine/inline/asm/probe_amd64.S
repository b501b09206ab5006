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

// A ring's header; the same numbers as in ring.go, and link_test.go compares.
#define OWNER 0
#define HEAD 8
#define LOST 16
#define DATA 24
#define TAIL 64
#define HEADER_SHIFT 7
#define NO_RING (-64) // from the first header

// A record.
#define R_TSC 0
#define R_GOID 8
#define R_OTHER 16
#define R_TID 24
#define R_WHERE 28
#define R_GOPC 0    // of the second record of a birth
#define R_STARTPC 8
#define RECORD_SHIFT 5

// Statuses: runtime/runtime2.go.
#define G_IDLE 0
#define G_RUNNABLE 1
#define G_RUNNING 2
#define G_WAITING 4
#define G_DEAD 6
#define STATUS 15 // all of them, without the scan bit

// The cookie: bits 0-7 the site, 8-15 from, 16-23 to, 24-31 flags (package probes).
#define FLAG_WAKER 0x1000000

// How many program counters of a stack are stored, four to a record.
#define DEPTH 32

// How many frames there may be between the switch of stacks and a go statement: newproc and
// the wrapper that the compiler makes for systemstack.
#define BELOW_GO 4

// How many rings an M looks at for its own or a free one.
#define TRIES 16

// BEGIN finds room for \n records. Afterwards: r9 = m, r10d = cookie, r11 = the
// header, r12 = head, rsi = the record, its time stamp stored. It goes to EXIT if
// tracing is off or if there is no room, which is counted.
	.macro BEGIN n
	movq	%rax, %r13
	movq	CONTROL(%rip), %r8	// the headers; 0 when off, and in a forked child
	testq	%r8, %r8
	jz	EXIT
	movq	G_M(%r14), %r9
	movq	M_ID(%r9), %r10
	movl	%r10d, %r11d
	andl	$RING_MASK, %r11d
	shlq	$HEADER_SHIFT, %r11
	addq	%r8, %r11		// where the ring of this M should be
	incq	%r10			// and the mark of its owner
	cmpq	%r10, OWNER(%r11)
	jne	5f
1:	movq	HEAD(%r11), %r12
	leaq	\n-1(%r12), %rsi
	subq	TAIL(%r11), %rsi
	cmpq	$CAPACITY, %rsi
	jae	4f
	movl	%r12d, %esi
	andl	$SLOT_MASK, %esi
	shlq	$RECORD_SHIFT, %rsi
	addq	DATA(%r11), %rsi
	// A few records ahead: else the LOCK of the runtime's compare-and-swap would
	// have to wait for the line of this one.
	prefetchw 512(%rsi)
	// The first touch of a page is a load: then the kernel maps those around it, too
	// (mm/memory.c, do_fault_around). It is overwritten at once, so nobody waits for it.
	movl	(%rsi), %eax
	movl	%edx, %r10d
	rdtsc
	shlq	$32, %rdx
	orq	%rdx, %rax
	movq	%rax, R_TSC(%rsi)
	movq	%r13, %rax

	.subsection 1 // after the template, out of the way
4:	incq	LOST(%r11)
	jmp	EXIT
	// The ring is another's: look for ours, or take a free one, in those after it.
5:	movl	$TRIES, %edi
6:	movq	OWNER(%r11), %rax
	cmpq	%r10, %rax
	je	8f
	testq	%rax, %rax
	jnz	7f
	lock cmpxchgq %r10, OWNER(%r11)
	je	8f
7:	addq	$(1 << HEADER_SHIFT), %r11
	leaq	HEADERS_SIZE(%r8), %rsi
	cmpq	%rsi, %r11
	cmovaeq	%r8, %r11
	decl	%edi
	jnz	6b
	lock incq NO_RING(%r8)
	movq	%r13, %rax
	jmp	EXIT
8:	movq	%r13, %rax
	jmp	1b
	.subsection 0
	.endm

// GOROUTINE stores who it is about and, as its reason may matter, why it waits.
	.macro GOROUTINE gp, rec
	movq	G_GOID(\gp), %rdi
	shlq	$8, %rdi
	movzbl	G_WAITREASON(\gp), %edx
	orq	%rdx, %rdi
	movq	%rdi, R_GOID(\rec)
	.endm

// CURRENT loads the goid of the user goroutine that the M works for, 0 if there is none.
	.macro CURRENT goid
	movq	M_CURG(%r9), %rdx
	testq	%rdx, %rdx
	jz	1f
	movq	G_GOID(%rdx), \goid
1:
	.endm

// WHERE stores thread, site, P and the change, from | to<<4 in r8d, which it shifts by 8.
	.macro WHERE rec
	movl	M_PROCID(%r9), %edx
	movl	%edx, R_TID(\rec)
	movl	$-1, %edx		// no P
	movq	M_P(%r9), %rdi
	testq	%rdi, %rdi
	jz	1f
	movl	P_ID(%rdi), %edx
1:	shll	$16, %edx
	shll	$8, %r8d
	movzbl	%r10b, %edi
	orl	%r8d, %edx
	orl	%edi, %edx
	movl	%edx, R_WHERE(\rec)
	.endm

// SECOND is the address of the record after the one at rsi.
	.macro SECOND rec
	leal	1(%r12), %edx
	andl	$SLOT_MASK, %edx
	shlq	$RECORD_SHIFT, %rdx
	addq	DATA(%r11), %rdx
	movq	%rdx, \rec
	.endm

	.macro PUBLISH n
	addq	$\n, %r12
	movq	%r12, HEAD(%r11)
	jmp	EXIT
	.endm

// BORN stores the rest of a birth: who, the parent, where; r8d = from | to<<4. The
// parent is g.parentGoid where there is one (Go 1.21), else the goroutine that
// executes newproc1.
	.macro ORIGIN gp, shift
	WHERE	%rsi
	GOROUTINE \gp, %rsi
	xorl	%edi, %edi
	movl	$HAVE_PARENT, %edx
	testl	%edx, %edx
	jz	2f
	movq	G_PARENT(\gp), %rdi
	jmp	3f
2:	CURRENT	%rdi
3:	.if \shift
	shlq	$\shift, %rdi
	.endif
	movq	%rdi, R_OTHER(%rsi)
	SECOND	%r8
	movq	G_GOPC(\gp), %rdi
	movq	%rdi, R_GOPC(%r8)
	movq	G_STARTPC(\gp), %rdi
	movq	%rdi, R_STARTPC(%r8)
	.endm

	.macro BORN gp
	ORIGIN	\gp, 0
	PUBLISH	2
	.endm

// WALK stores the program counters of a stack, from the frame whose pointer is in r8 on;
// who has one to store before that goes to 7 with it in rax. rdi is where they are stored,
// in bytes since the beginning, and the low byte of R_OTHER counts them. A frame must be
// from r9 to r10, all of which is mapped, and above the one before; Go keeps frame pointers
// on amd64. Then it publishes all records and leaves.
	.macro WALK
6:	cmpq	%r9, %r8
	jb	8f
	cmpq	%r10, %r8
	ja	8f
	movq	8(%r8), %rax		// where this frame returns to
	movq	(%r8), %rdx		// the frame before
	cmpq	%r8, %rdx
	movq	%rdx, %r8
	ja	7f
	xorl	%r8d, %r8d		// not upwards: the last one
	testq	%rax, %rax
	jz	8f
7:	movq	%rdi, %rdx
	andl	$RING_BYTES_MASK, %edx
	addq	DATA(%r11), %rdx
	movq	%rax, (%rdx)
	addq	$8, %rdi
	incq	R_OTHER(%rsi)
	cmpb	$DEPTH, R_OTHER(%rsi)
	jb	6b
8:	movq	%r13, %rax
	addq	$((1 << RECORD_SHIFT) - 1), %rdi
	shrq	$RECORD_SHIFT, %rdi	// records since the beginning
	movq	%rdi, HEAD(%r11)
	jmp	EXIT
	.endm

// BORNAT is BORN with the stack of the parent at the go statement behind the two records;
// R_OTHER is the parent << 8 | how many program counters. newproc1 runs on g0, and
// systemstack has saved the parent's registers in its g.sched. The frame that returns to
// g.gopc is newproc's (runtime/proc.go, newproc; runtime/coro.go, newcoro), a few above at most.
// If it is not there, what is saved is not of this go statement, and there is no stack.
// Nobody moves a stack whose goroutine runs.
	.macro BORNAT gp
	ORIGIN	\gp, 8
	leaq	2(%r12), %rdi
	shlq	$RECORD_SHIFT, %rdi
	cmpq	M_G0(%r9), %r14
	jne	8f
	movq	M_CURG(%r9), %rdx
	testq	%rdx, %rdx
	jz	8f
	movq	G_SCHEDBP(%rdx), %r8
	movq	G_SCHEDSP(%rdx), %r9
	cmpq	G_STACKLO(%rdx), %r9
	jb	8f
	movq	G_STACKHI(%rdx), %r10
	subq	$16, %r10
	movl	$BELOW_GO, %r12d
5:	cmpq	%r9, %r8
	jb	8f
	cmpq	%r10, %r8
	ja	8f
	movq	8(%r8), %rdx
	cmpq	%rdx, G_GOPC(\gp)
	je	6f
	movq	(%r8), %rdx
	cmpq	%r8, %rdx
	jbe	8f
	movq	%rdx, %r8
	decl	%r12d
	jnz	5b
	jmp	8f
	WALK
	.endm

// ENTERS begins the record of a goroutine that begins a system call, r8d = from | to<<4,
// and the walk of its own stack: RBP is its frame. What is above the stack pointer is in
// use, hence mapped. Where the thread is on another stack it goes to 9.
	.macro ENTERS
	WHERE	%rsi
	GOROUTINE %r14, %rsi
	movq	$0, R_OTHER(%rsi)
	movq	%rsp, %r9
	cmpq	G_STACKLO(%r14), %r9
	jb	9f
	movq	G_STACKHI(%r14), %r10
	subq	$16, %r10
	cmpq	%r10, %r9
	ja	9f
	movq	%rbp, %r8
	leaq	1(%r12), %rdi
	shlq	$RECORD_SHIFT, %rdi
	.endm

// CALLER goes on with where the function is called from as the first one.
	.macro CALLER
	movq	(%rsp), %rax
	jmp	7f
	WALK
9:	PUBLISH	1
	.endm

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
	movq	G_SCHEDBP(%rax), %r8
	movq	G_STACKLO(%rax), %r9
	movq	G_STACKHI(%rax), %r10
	subq	$16, %r10
	movq	G_SCHEDPC(%rax), %rax
	leaq	1(%r12), %rdi
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
