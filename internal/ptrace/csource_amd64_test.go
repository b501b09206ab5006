package ptrace_test

// asmSource is the part of the target that knows which registers it has. The
// function holds keeps a known value in every register that user code has, and in the
// red zone, for a third of a millisecond, and says whether one was changed; the memory
// operands leave no register unwatched. holds writes zmm and opmask registers only
// where vectors is 2, and ymm where it is 1.
const asmSource = `
	.text
	.globl syscall_ret, sigreturn_eax, sigreturn_rax, spin_lo, spin_hi, other_lo, holds
syscall_ret:
	syscall
	ret
sigreturn_eax:
	mov $15, %eax
	syscall
sigreturn_rax:
	.byte 0x48, 0xc7, 0xc0, 15, 0, 0, 0
	syscall

spin_lo:
	incq facts(%rip)
	jmp spin_lo
spin_hi:
other_lo:
	incq facts+24(%rip)
	jmp other_lo

	.altmacro
	.macro each what, x
	\what 0, \x, rax
	\what 1, \x, rbx
	\what 2, \x, rcx
	\what 3, \x, rdx
	\what 4, \x, rsi
	\what 5, \x, rdi
	\what 6, \x, rbp
	\what 7, \x, r8
	\what 8, \x, r9
	\what 9, \x, r10
	\what 10, \x, r11
	\what 11, \x, r12
	\what 12, \x, r13
	\what 13, \x, r14
	\what 14, \x, r15
	.endm
	.macro fill n, x, r
	movq gpr+8*\n(%rip), %\r
	movq %\r, -128+8*\n(%rsp)
	.endm
	.macro same n, x, r
	cmpq gpr+8*\n(%rip), %\r
	jne 9f
	cmpq %\r, -128+8*\n(%rsp)
	jne 9f
	.endm

holds:
	push %rbx
	push %rbp
	push %r12
	push %r13
	push %r14
	push %r15
	ldmxcsr mxcsr(%rip)
	fninit
	fldcw fcw(%rip)
	fld1
	fldpi
	cmpl $1, vectors(%rip)
	je 1f
	ja 2f
	.irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
	movups vec+64*\n(%rip), %xmm\n
	.endr
	jmp 3f
1:	.irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
	vmovups vec+64*\n(%rip), %ymm\n
	.endr
	jmp 3f
2:	.irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
	vmovups vec+64*\n(%rip), %zmm\n
	.endr
	.irp n, 1,2,3,4,5,6,7
	kmovw opmask+8*\n(%rip), %k\n
	.endr
3:	movl $10000, left(%rip)
	each fill, 0
4:	incq facts(%rip)
	each same, 0
	stc
	.rept 64
	nop
	.endr
	jnc 9f
	decl left(%rip)
	jnz 4b
	xorl %eax, %eax
	jmp 8f
9:	movl $1, %eax
8:	cmpl $1, vectors(%rip)
	je 1f
	ja 2f
	.irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
	movups %xmm\n, gotvec+64*\n(%rip)
	.endr
	jmp 3f
1:	.irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
	vmovups %ymm\n, gotvec+64*\n(%rip)
	.endr
	vzeroupper
	jmp 3f
2:	.irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
	vmovups %zmm\n, gotvec+64*\n(%rip)
	.endr
	.irp n, 1,2,3,4,5,6,7
	kmovw %k\n, gotmask+8*\n(%rip)
	.endr
	vzeroupper
3:	stmxcsr gotmxcsr(%rip)
	fnstcw gotfcw(%rip)
	fstpl gotst(%rip)
	fstpl gotst+8(%rip)
	fninit
	ldmxcsr mxcsr0(%rip)
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbp
	pop %rbx
	ret
	.section .note.GNU-stack,"",@progbits
`

// commonSource is what the modes of the target share. The order of struct facts is
// that of the Go type facts.
const commonSource = `
#define _GNU_SOURCE
#include <alloca.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

volatile struct {
	uint64_t loops;   // of holds, or of the first spin loop
	uint64_t bad;     // rounds in which anything was not as it must be
	uint64_t what;    // WRONG_..., of all of these
	uint64_t other;   // of the second thread, or of the second spin loop
	uint64_t queued;  // real-time signals
	uint64_t urgent;  // SIGURG
	uint64_t ticks;   // SIGALRM
	uint64_t eintr;   // sleeps that ended early with no signal handled
	uint64_t rounds;  // completed
	uint64_t inside;  // signal handlers entered
	uint64_t go;      // written from outside
} facts;

enum { WRONG_GPR = 1, WRONG_VEC = 2, WRONG_FPU = 4, WRONG_SUM = 8, WRONG_CALL = 16, WRONG_MASK = 32, WRONG_STACK = 64, WRONG_QUEUE = 128 };

extern char syscall_ret[], sigreturn_eax[], sigreturn_rax[], spin_lo[], spin_hi[], other_lo[];
extern int holds(void);

uint64_t gpr[15], opmask[8], gotmask[8];
unsigned char vec[32][64], gotvec[32][64];
uint32_t mxcsr0 = 0x1f80, mxcsr = 0x7f80, gotmxcsr; // round to zero
uint16_t fcw = 0x0f7f, gotfcw;                       // likewise
double gotst[2];
int vectors, left;

static void wrong(uint64_t how) { facts.what |= how; facts.bad++; }

static int64_t now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static long raw(long nr, long a, long b, long c, long d, long e, long f) {
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
	long ret;
	__asm__ volatile("syscall" : "=a"(ret) : "0"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	return ret;
}

static void handle(int sig, void (*f)(int, siginfo_t *, void *), int flags, int all) {
	struct sigaction sa = {.sa_sigaction = f, .sa_flags = SA_SIGINFO | flags};
	if (all)
		sigfillset(&sa.sa_mask);
	if (sigaction(sig, &sa, NULL))
		abort();
}

static stack_t own;

static void altstack(void) {
	own.ss_sp = malloc(own.ss_size = 256 << 10);
	if (sigaltstack(&own, NULL))
		abort();
}

static void ready(void) {
	printf("target %p %p %p %p %p %p %p\n", (void *)&facts, syscall_ret, sigreturn_eax, sigreturn_rax, spin_lo, spin_hi, other_lo);
	fflush(stdout);
}

static void line(void) { // waits for a line of stdin, or its end
	char c;
	while (read(0, &c, 1) == 1 && c != '\n')
		;
}
`
