// SPDX-License-Identifier: MIT OR GPL-2.0
// Emits one record for every change of a goroutine's status (g.atomicstatus).
//
// Where the programs run. The runtime changes a status in runtime.casgstatus
// and in a few places around it. on_cas sits at the CALL instructions that call
// those functions, on_birth, on_self and on_switch at the paths around them, and
// the tracepoints see system calls without any probe in the target. Every
// program runs *before* the compare-and-swap. That makes the ring's order the
// causal order of each goroutine: nobody can start a goroutine's next change
// before this one is done, and the record is reserved before it is begun.
//
// What they walk: from a register or an argument to the goroutine, its thread and
// that one's processor in emit.h, down its stack in stack.h; in_syscall here goes from
// the registers of a thread at a system call to the goroutine that made it.
#include "trace.h"
#include "stack.h"
#include "emit.h"

// on_cas: at a `CALL runtime.casgstatus` (or casGToPreemptScan,
// casGFromPreempted, which take the same arguments).
// Registers: ARG0 the goroutine, ARG1 the old status, ARG2 the new one, G the
// thread's current g (g0 in most places). Emits the change, or the birth when
// newproc1 makes a dead goroutine runnable (Go 1.24+). Failures: read_fault,
// ring_full. Bound: no loop but walk's, at most 10 reads of 8 bytes besides.
SEC("uprobe")
int on_cas(struct user_regs *ctx)
{
	struct thread t = current_thread();

	if (!wanted_at_probe(ctx, t))
		return 0;
	count(COUNT_UPROBE);

	u64 cookie = bpf_get_attach_cookie(ctx);
	u64 gp = REG_ARG0(ctx), self = REG_G(ctx);
	u8 from = REG_ARG1(ctx) & ~G_SCAN, to = REG_ARG2(ctx) & ~G_SCAN;
	u8 site = COOKIE_SITE(cookie), flags = COOKIE_FLAGS(cookie);
	int born = from == G_DEAD && (to == G_RUNNABLE || to == G_WAITING);
	u64 stack = 0;

	// A g that was just allocated becomes an unused (dead) one: no goroutine yet.
	if (from == G_IDLE)
		return 0;
	if (stacks_on) {
		struct origin at = {};

		if (born)
			at_go(&at, self, gp);
		else if (flags & SITE_PARKS && from == G_RUNNING && to == G_WAITING)
			saved(&at, gp);
		else if (from == G_RUNNING && to == G_SYSCALL && self == gp)
			at_call(&at, ctx, gp); // entersyscallblock
		stack = walk(&at, t, AT_UPROBE);
	}
	if (born)
		emit_birth(to == G_WAITING ? KIND_BIRTH_PARKED : KIND_BIRTH, site, t, self, gp,
			   REG_IP(ctx), stack);
	else
		emit_change(flags & SITE_ATTEMPT ? KIND_ATTEMPT : KIND_CHANGE, site, flags, t, self,
			    gp, from, to, stack);
	return 0;
}

// on_birth: after newproc1 has returned and before anybody else can see the new
// goroutine. For Go 1.18 to 1.23, where newproc1 calls casgstatus first and
// sets g.goid after it. Registers: ARG0 or, at a CALL of runqput, ARG1 the new
// goroutine. It already has its new status. Failures and bound as on_cas.
SEC("uprobe")
int on_birth(struct user_regs *ctx)
{
	struct thread t = current_thread();

	if (!wanted_at_probe(ctx, t))
		return 0;
	count(COUNT_UPROBE);

	u64 cookie = bpf_get_attach_cookie(ctx);
	u64 gp = REG_ARG0(ctx), arg1 = REG_ARG1(ctx), stack = 0;
	u32 status = 0;

	// Both are read before the choice: the compiler would otherwise choose
	// between two context pointers, which the verifier refuses.
	asm volatile("" : "+r"(gp), "+r"(arg1));
	if (COOKIE_FLAGS(cookie) & SITE_G_IN_ARG1)
		gp = arg1;

	READ(AT_UPROBE, &status, gp + layout.g_status);
	u8 kind = (status & ~G_SCAN) == G_WAITING ? KIND_BIRTH_PARKED : KIND_BIRTH;

	if (stacks_on) {
		struct origin at = {};

		at_go(&at, REG_G(ctx), gp);
		stack = walk(&at, t, AT_UPROBE);
	}
	emit_birth(kind, COOKIE_SITE(cookie), t, REG_G(ctx), gp, REG_IP(ctx), stack);
	return 0;
}

// on_self: at a CALL of a function that will make one known change of one
// goroutine, from and to are the cookie's: entersyscall, reentersyscall and
// exitsyscall where no system call follows or precedes (cgo, note sleeps), for
// the current g; goschedImpl, for its first argument. Failures and bound as
// on_cas.
SEC("uprobe")
int on_self(struct user_regs *ctx)
{
	struct thread t = current_thread();

	if (!wanted_at_probe(ctx, t))
		return 0;
	count(COUNT_UPROBE);

	u64 cookie = bpf_get_attach_cookie(ctx);
	u64 self = REG_G(ctx), gp = self, arg0 = REG_ARG0(ctx), stack = 0;

	asm volatile("" : "+r"(gp), "+r"(arg0)); // see on_birth
	if (COOKIE_FLAGS(cookie) & SITE_G_IN_ARG0)
		gp = arg0;
	if (stacks_on && COOKIE_TO(cookie) == G_SYSCALL && gp == self) {
		struct origin at = {};

		at_call(&at, ctx, gp);
		stack = walk(&at, t, AT_UPROBE);
	}
	emit_change(KIND_CHANGE, COOKIE_SITE(cookie), 0, t, self, gp, COOKIE_FROM(cookie),
		    COOKIE_TO(cookie), stack);
	return 0;
}

// on_switch: in runtime.coroswitch_m (Go 1.22+), which hands the thread from a
// coroutine to its other half without the scheduler: ARG0 is the goroutine that
// leaves, g.coroarg.gp the one that comes. Two changes: running to waiting,
// waiting to running. A goroutine that ends (g.coroexit) goes through gdestroy,
// which has its own site. The reason is not set yet here; Go fills in
// "coroutine" by the site. Failures and bound as on_cas, twice.
SEC("uprobe")
int on_switch(struct user_regs *ctx)
{
	struct thread t = current_thread();

	if (!wanted_at_probe(ctx, t))
		return 0;
	count(COUNT_UPROBE);

	u64 gp = REG_ARG0(ctx), self = REG_G(ctx), coro = 0, next = 0;
	u8 exits = 0, site = COOKIE_SITE(bpf_get_attach_cookie(ctx));

	READ(AT_UPROBE, &exits, gp + layout.g_coroexit);
	if (!exits)
		emit_change(KIND_CHANGE, site, 0, t, self, gp, G_RUNNING, G_WAITING, 0);
	READ(AT_UPROBE, &coro, gp + layout.g_coroarg);
	READ(AT_UPROBE, &next, coro + layout.coro_gp);
	if (!next) {
		count(LOST_READ_FAULT);
		return 0;
	}
	emit_change(KIND_CHANGE, site, 0, t, self, next, G_WAITING, G_RUNNING, 0);
	return 0;
}

// Finds the goroutine that is in _Gsyscall and stands at the system call itself; c->g is
// 0 if there is none. The register that holds g is not enough: a thread that was just
// cloned still has its creator's there, C code may have anything. So the thread
// must be on that goroutine's own stack; it is not when it runs the scheduler
// (g0), a signal handler (gsignal) or C code. Left out are raw system calls (the
// status is running) and the futex calls of a note sleep (m.blocked), of which
// entersyscallblock has been reported. The callers leave out sched_yield: the
// runtime itself calls it on a goroutine's stack, when casgstatus has to wait for
// the scan bit to be taken away (runtime/proc.go casgstatus, osyield).
// Returns not 0 if the memory is not there, as far as the register says where it is.
INLINE long in_syscall(struct call *c, struct user_regs *regs)
{
	u64 g = 0, stack[2] = {};
	u32 status = 0;
	u8 blocked = 1;

	bpf_probe_read_kernel(&g, sizeof(g), &REG_G(regs));
	bpf_probe_read_kernel(&c->sp, sizeof(c->sp), &REG_SP(regs));
	if (!g || g % sizeof(g))
		return 0;
	if (READ(AT_TRACEPOINT, &status, g + layout.g_status))
		return 1;
	if ((status & ~G_SCAN) != G_SYSCALL)
		return 0;
	if (READ(AT_TRACEPOINT, &stack, g + layout.g_stack))
		return 1;
	if (c->sp < stack[0] || c->sp >= stack[1])
		return 0;
	if (READ(AT_TRACEPOINT, &c->m, g + layout.g_m) ||
	    READ(AT_TRACEPOINT, &c->goid, g + layout.g_goid) ||
	    READ(AT_TRACEPOINT, &blocked, c->m + layout.m_blocked))
		return 1;
	if (!blocked)
		c->g = g;
	return 0;
}

// Thread t, which is traced, has entered system call nr. The goroutine's status is
// already _Gsyscall and only itself can change that. R14 (R28) still is g: the
// runtime's system call stubs keep it. The memory is there, since entersyscall has just
// written to it.
INLINE int entered(struct thread t, struct user_regs *regs, u64 nr)
{
	struct call c = {};
	u64 stack = 0;

	count(COUNT_SYSCALL);
	if (nr == NR_SCHED_YIELD)
		return 0;
	in_syscall(&c, regs);
	if (!c.g)
		return 0;
	if (stacks_on) {
		struct origin at = {};

		at_syscall(&at, regs, c.g);
		stack = walk(&at, t, AT_TRACEPOINT);
	}
	emit_syscall(KIND_SYSCALL, t, &c, G_RUNNING, G_SYSCALL, stack);
	return 0;
}

// Thread t, which is traced, comes back from a system call. Not the end of the call: a
// return value that only the kernel sees (-ERESTARTSYS -512 to
// -ERESTART_RESTARTBLOCK -516, include/linux/errno.h), after which the kernel
// runs signal handlers or repeats the call; and a return from a signal handler
// (rt_sigreturn) to the SYSCALL instruction itself, which is that repetition.
// User space drops what still comes twice (KIND_SYSCALL). The goroutine's memory may be
// gone after a long call, and this program cannot wait for it; user space knows who
// entered the call (KIND_RETURN).
INLINE int left(struct thread t, struct user_regs *regs, s64 ret)
{
	syscall_insn insn = 0;
	struct call c = {};
	u64 ip = 0;
	u32 nr = 0;
	u8 kind = KIND_SYSCALL;

	count(COUNT_SYSCALL);
	if (ret <= -512 && ret >= -516)
		return 0;
	bpf_probe_read_kernel(&nr, sizeof(nr), &REG_NR(regs));
	if (nr == NR_SCHED_YIELD)
		return 0;
	if (in_syscall(&c, regs)) {
		kind = KIND_RETURN;
		c.m = 0;
		c.goid = 0;
	} else if (!c.g) {
		return 0;
	}
	bpf_probe_read_kernel(&ip, sizeof(ip), &REG_IP(regs));
	READ(AT_TRACEPOINT, &insn, ip);
	if (insn == SYSCALL_INSN)
		return 0;
	emit_syscall(kind, t, &c, G_SYSCALL, G_RUNNING, 0);
	return 0;
}

// The process of thread t, which is traced, runs another program now (or the same one
// anew); its goroutines are gone without a word.
INLINE int executed(struct thread t)
{
	if (!scope.tgid)
		bpf_map_delete_elem(&processes, &t.tgid);

	struct record *r = bpf_ringbuf_reserve(&events, sizeof(*r), 0);

	if (!r) {
		count(LOST_RING_FULL);
		return 0;
	}
	fill(r, KIND_EXEC, SITE_NONE, t, 0, (struct maker){.p = -1});
	r->gopc = 0;
	r->startpc = 0;
	bpf_ringbuf_submit(r, 0);
	return 0;
}

// The programs at tracepoints, which run for every process of the system. There are two
// of each, of which one is loaded: the raw ones, and those that the kernel calls through
// perf events. tracepoints.go says when which are used.

// sys_enter(regs, nr)
SEC("raw_tracepoint/sys_enter")
int on_sys_enter(struct raw_tp_ctx *ctx)
{
	struct thread t = current_thread();

	if (!wanted_at_tracepoint(t))
		return 0;
	return entered(t, (void *)ctx->args[0], ctx->args[1]);
}

// sys_exit(regs, ret)
SEC("raw_tracepoint/sys_exit")
int on_sys_exit(struct raw_tp_ctx *ctx)
{
	struct thread t = current_thread();

	if (!wanted_at_tracepoint(t))
		return 0;
	return left(t, (void *)ctx->args[0], ctx->args[1]);
}

SEC("raw_tracepoint/sched_process_exec")
int on_exec(void *ctx)
{
	struct thread t = current_thread();

	(void)ctx;
	if (!wanted_at_tracepoint(t))
		return 0;
	return executed(t);
}

// The user registers of the current thread, which perf events do not hand over: the same
// that the raw tracepoints get (syscall_trace_enter and its like, of each architecture).
INLINE struct user_regs *task_regs(void)
{
	return bpf_task_pt_regs(bpf_get_current_task_btf());
}

SEC("tracepoint/raw_syscalls/sys_enter")
int perf_sys_enter(struct sys_enter_event *ctx)
{
	struct thread t = current_thread();

	if (!wanted_at_tracepoint(t))
		return 0;
	return entered(t, task_regs(), ctx->nr);
}

SEC("tracepoint/raw_syscalls/sys_exit")
int perf_sys_exit(struct sys_exit_event *ctx)
{
	struct thread t = current_thread();

	if (!wanted_at_tracepoint(t))
		return 0;
	return left(t, task_regs(), ctx->ret);
}

SEC("tracepoint/sched/sched_process_exec")
int perf_exec(void *ctx)
{
	struct thread t = current_thread();

	(void)ctx;
	if (!wanted_at_tracepoint(t))
		return 0;
	return executed(t);
}

// read_stack: user space asks for a stack. The kernel calls it at no event, but for the system
// call by which it is asked for (BPF_PROG_RUN). While a thread reads a map by itself, the
// kernel skips what perf events call on that CPU (include/linux/bpf.h,
// bpf_disable_instrumentation), also when the thread is put off the CPU meanwhile; while it
// runs a program, it does not. No stack is ever removed. Returns 1 if it has none.
SEC("syscall")
int read_stack(struct stack_read *ctx)
{
	u64 key = ctx->key;
	struct stack *kept = bpf_map_lookup_elem(&stacks, &key);

	if (!kept)
		return 1;
	ctx->stack = *kept;
	return 0;
}

// Keep the contract in the object's type information, from where Go reads it.
const struct record *records __attribute__((unused));
const struct stack_record *stack_records __attribute__((unused));
const enum kind *kinds __attribute__((unused));
const enum counter *counter_names __attribute__((unused));

char _license[] SEC("license") = "Dual MIT/GPL";
