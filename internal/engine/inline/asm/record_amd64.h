// SPDX-License-Identifier: MIT
// The record: its ring, its layout, and the macros that make one.
//
// What they walk: from the current g (R14) to its m, from the m to the ring with its
// mark and to a free record in it (BEGIN); from m to m.curg and m.p, from the goroutine
// to what is told of it (CURRENT, WHERE, GOROUTINE, BORN); and back to the header of the
// ring, which makes the record seen (PUBLISH).

// A ring's header; the same numbers as in ring.go, and link_test.go compares.
#define OWNER 0
#define HEAD 8
#define LOST 16
#define DATA 24
#define BASE 32
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
	movq	%r12, %rsi
	subq	TAIL(%r11), %rsi
	jz	9f
2:	.if \n - 1
	addq	$(\n - 1), %rsi
	.endif
	cmpq	$CAPACITY, %rsi
	jae	4f
	movl	%r12d, %esi
	subl	BASE(%r11), %esi
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
	// All has been read: begin at the front again. So a thread that makes few events stays on
	// the same few pages, which are mapped and in its cache; a page that is touched for the
	// first time costs more than a hundred events.
9:	movq	%r12, BASE(%r11)
	jmp	2b
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
	subl	BASE(%r11), %edx
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
