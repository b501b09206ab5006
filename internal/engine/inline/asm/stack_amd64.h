// SPDX-License-Identifier: MIT
// The stack behind a record: the macros that walk one.
//
// What they walk: from where the goroutine's frame pointer is, g.sched for one that has
// left its stack and RBP for one that is on it, from each frame to its caller's, within
// g.stack. The program counters that the frames return to are stored after the record.

// How many program counters of a stack are stored, four to a record.
#define DEPTH 32

// How many frames there may be between the switch of stacks and a go statement: newproc and
// the wrapper that the compiler makes for systemstack.
#define BELOW_GO 4

// WALK stores the program counters of a stack, from the frame whose pointer is in r8 on;
// who has one to store before that goes to 7 with it in rax. rdi is where they are stored,
// in bytes since BASE, and the low byte of R_OTHER counts them. A frame must be
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
	shrq	$RECORD_SHIFT, %rdi	// records since BASE
	addq	BASE(%r11), %rdi
	movq	%rdi, HEAD(%r11)
	jmp	EXIT
	.endm

// SPARE is a word that is 0, or what the low byte of R_OTHER says (SPARED in stacks.go) where
// no stack is stored because the trace does without, to spare the process.

// BORNAT is BORN with the stack of the parent at the go statement behind the two records;
// R_OTHER is the parent << 8 | how many program counters. newproc1 runs on g0, and
// systemstack has saved the parent's registers in its g.sched. The frame that returns to
// g.gopc is newproc's (runtime/proc.go, newproc; runtime/coro.go, newcoro), a few above at most.
// If it is not there, what is saved is not of this go statement, and there is no stack.
// Nobody moves a stack whose goroutine runs.
	.macro BORNAT gp
	ORIGIN	\gp, 8
	leaq	2(%r12), %rdi
	subq	BASE(%r11), %rdi
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
	movl	SPARE(%rip), %r12d
	orq	%r12, R_OTHER(%rsi)
	testl	%r12d, %r12d
	jnz	8f
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
	movl	SPARE(%rip), %edi
	movq	%rdi, R_OTHER(%rsi)
	testl	%edi, %edi
	jnz	9f
	movq	%rsp, %r9
	cmpq	G_STACKLO(%r14), %r9
	jb	9f
	movq	G_STACKHI(%r14), %r10
	subq	$16, %r10
	cmpq	%r10, %r9
	ja	9f
	movq	%rbp, %r8
	leaq	1(%r12), %rdi
	subq	BASE(%r11), %rdi
	shlq	$RECORD_SHIFT, %rdi
	.endm

// CALLER goes on with where the function is called from as the first one.
	.macro CALLER
	movq	(%rsp), %rax
	jmp	7f
	WALK
9:	PUBLISH	1
	.endm
