// SPDX-License-Identifier: MIT OR GPL-2.0
// Emits one record for every change of a goroutine's status (g.atomicstatus).
//
// Where the programs run. The runtime changes a status in runtime.casgstatus
// and in a few places around it. on_cas sits at the CALL instructions that call
// those functions, in_syscall and on_switch at the paths that bypass them, and
// the tracepoints see system calls without any probe in the target. Every
// program runs *before* the compare-and-swap. That makes the ring's order the
// causal order of each goroutine: nobody can start a goroutine's next change
// before this one is done, and the record is reserved before it is begun.
//
// What they walk. Go keeps the current goroutine in a register (REG_G). While
// the scheduler works, that is the thread's g0, not a user goroutine; both have
// g.m, the thread. From m: m.id, m.curg (the user goroutine that the thread
// works for, so the one that wakes another) and m.p, the processor, if any.
#include "event.h"

// Set before load.
const volatile struct runtime_layout layout;
const volatile struct trace_scope scope;

// 0 until every probe is in place and again from the moment the trace ends, so
// that the stream never begins or ends with some probes missing.
volatile u32 enabled;

struct {
	__uint(type, MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 << 20);
} events SEC(".maps");

struct {
	__uint(type, MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, u32);
	__type(value, u64);
} counters SEC(".maps");

// The processes seen executing the traced binary, by tgid; only used when
// scope.tgid is 0. Tracepoints fire for the whole system and need it to know
// whose calls to look at. User space removes a process when it is gone.
struct {
	__uint(type, MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, u32);
	__type(value, u8);
} processes SEC(".maps");

INLINE void count(u32 which)
{
	u64 *slot = bpf_map_lookup_elem(&counters, &which);

	if (slot)
		(*slot)++;
}

// A user-memory read of exactly one field. On a fault *dst is zero.
#define READ(dst, addr) (bpf_probe_read_user((dst), sizeof(*(dst)), (void *)(addr)))

// The current thread, with ids in the PID namespace that the user's ids are of.
// tgid 0 when it cannot be named there.
struct thread {
	u32 tid;
	u32 tgid;
};

INLINE struct thread current_thread(void)
{
	struct thread t = {};

	if (scope.pidns_ino) {
		struct pidns_info ns = {};

		if (!bpf_get_ns_current_pid_tgid(scope.pidns_dev, scope.pidns_ino, &ns,
						 sizeof(ns))) {
			t.tid = ns.pid;
			t.tgid = ns.tgid;
		}
		return t;
	}
	u64 id = bpf_get_current_pid_tgid();

	t.tid = (u32)id;
	t.tgid = id >> 32;
	return t;
}

// Whether a uprobe hit of thread t is to be traced. The attachment already
// filters by process; the comparison is for kernels on which it filters less.
INLINE int wanted_at_probe(struct thread t)
{
	u8 one = 1;

	if (!enabled || !t.tgid)
		return 0;
	if (scope.tgid)
		return t.tgid == scope.tgid;
	if (!bpf_map_lookup_elem(&processes, &t.tgid) &&
	    bpf_map_update_elem(&processes, &t.tgid, &one, 0)) {
		count(LOST_PROCESSES);
		return 0;
	}
	return 1;
}

// The same for a tracepoint, which runs for every process of the system.
INLINE int wanted_at_tracepoint(struct thread t)
{
	if (!enabled || !t.tgid)
		return 0;
	if (scope.tgid)
		return t.tgid == scope.tgid;
	return bpf_map_lookup_elem(&processes, &t.tgid) != 0;
}

// Fills what every record has: who, when, on which M and P. m may be 0. A thread
// that has entered a system call holds no P before Go 1.26; use_oldp takes the
// one that it held.
INLINE void fill(struct record *r, u8 kind, u8 site, struct thread t, u64 goid, u64 m, u8 use_oldp)
{
	u64 id = 0, p = 0;
	s32 pid = -1;

	r->kind = kind;
	r->site = site;
	r->tid = t.tid;
	r->tgid = t.tgid;
	r->time = bpf_ktime_get_ns();
	r->goid = goid;
	r->other = 0;
	if (m) {
		READ(&id, m + layout.m_id);
		READ(&p, m + layout.m_p);
		if (!p && use_oldp)
			READ(&p, m + layout.m_oldp);
		if (p)
			READ(&pid, p + layout.p_id);
	}
	r->m = (u32)id;
	r->p = (s16)pid;
}

// The goid of the user goroutine that m works for; 0 when there is none.
INLINE u64 current_goid(u64 m)
{
	u64 curg = 0, goid = 0;

	READ(&curg, m + layout.m_curg);
	if (curg)
		READ(&goid, curg + layout.g_goid);
	return goid;
}

// Emits the change of goroutine gp from one status to another, made by the
// thread whose current g is self.
INLINE void emit_change(u8 kind, u8 site, u8 flags, struct thread t, u64 self, u64 gp, u8 from,
			u8 to)
{
	u64 goid = 0, m = 0;

	if (READ(&goid, gp + layout.g_goid) || READ(&m, self + layout.g_m)) {
		count(LOST_READ_FAULT);
		return;
	}
	struct record *r = bpf_ringbuf_reserve(&events, sizeof(*r), 0);

	if (!r) {
		count(LOST_RING_FULL);
		return;
	}
	fill(r, kind, site, t, goid, m, to == G_SYSCALL);
	r->from = from;
	r->to = to;
	r->reason = 0;
	r->pad = 0;
	r->unused = 0;
	if (from == G_WAITING || to == G_WAITING)
		READ(&r->reason, gp + layout.g_waitreason);
	if (flags & SITE_WAKER)
		r->other = current_goid(m);
	bpf_ringbuf_submit(r, RB_NO_WAKEUP);
	count(COUNT_EVENTS);
}

// The distance of a code address from the probed instruction.
INLINE s32 distance(u64 pc, u64 ip)
{
	s64 d = (s64)(pc - ip);

	return pc && d == (s32)d ? (s32)d : 0;
}

// Emits the birth of goroutine gp. newproc1 has set everything but, before Go
// 1.24, the goid when it calls casgstatus; the site is chosen accordingly.
INLINE void emit_birth(u8 kind, u8 site, struct thread t, u64 self, u64 gp, u64 ip)
{
	u64 goid = 0, m = 0, gopc = 0, startpc = 0, parent = 0;

	if (READ(&goid, gp + layout.g_goid) || READ(&m, self + layout.g_m) ||
	    READ(&gopc, gp + layout.g_gopc) || READ(&startpc, gp + layout.g_startpc)) {
		count(LOST_READ_FAULT);
		return;
	}
	// g.parentGoid is there since Go 1.21. Before, the creator is the user
	// goroutine of the thread that executes newproc1.
	if (layout.g_parent != NO_FIELD)
		READ(&parent, gp + layout.g_parent);
	else
		parent = current_goid(m);

	struct record *r = bpf_ringbuf_reserve(&events, sizeof(*r), 0);

	if (!r) {
		count(LOST_RING_FULL);
		return;
	}
	fill(r, kind, site, t, goid, m, 0);
	r->other = parent;
	r->gopc = distance(gopc, ip);
	r->startpc = distance(startpc, ip);
	bpf_ringbuf_submit(r, RB_NO_WAKEUP);
	count(COUNT_EVENTS);
}

// on_cas: at a `CALL runtime.casgstatus` (or casGToPreemptScan,
// casGFromPreempted, which take the same arguments).
// Registers: ARG0 the goroutine, ARG1 the old status, ARG2 the new one, G the
// thread's current g (g0 in most places). Emits the change, or the birth when
// newproc1 makes a dead goroutine runnable (Go 1.24+). Failures: read_fault,
// ring_full. Bound: no loop, at most 10 reads of 8 bytes.
SEC("uprobe")
int on_cas(struct user_regs *ctx)
{
	struct thread t = current_thread();

	if (!wanted_at_probe(t))
		return 0;
	count(COUNT_UPROBE);

	u64 cookie = bpf_get_attach_cookie(ctx);
	u64 gp = REG_ARG0(ctx), self = REG_G(ctx);
	u8 from = REG_ARG1(ctx) & ~G_SCAN, to = REG_ARG2(ctx) & ~G_SCAN;
	u8 site = COOKIE_SITE(cookie), flags = COOKIE_FLAGS(cookie);

	// A g that was just allocated becomes an unused (dead) one: no goroutine yet.
	if (from == G_IDLE)
		return 0;
	if (from == G_DEAD && to == G_RUNNABLE)
		emit_birth(KIND_BIRTH, site, t, self, gp, REG_IP(ctx));
	else if (from == G_DEAD && to == G_WAITING)
		emit_birth(KIND_BIRTH_PARKED, site, t, self, gp, REG_IP(ctx));
	else
		emit_change(flags & SITE_ATTEMPT ? KIND_ATTEMPT : KIND_CHANGE, site, flags, t, self,
			    gp, from, to);
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

	if (!wanted_at_probe(t))
		return 0;
	count(COUNT_UPROBE);

	u64 cookie = bpf_get_attach_cookie(ctx);
	u64 gp = REG_ARG0(ctx), arg1 = REG_ARG1(ctx);
	u32 status = 0;

	// Both are read before the choice: the compiler would otherwise choose
	// between two context pointers, which the verifier refuses.
	asm volatile("" : "+r"(gp), "+r"(arg1));
	if (COOKIE_FLAGS(cookie) & SITE_G_IN_ARG1)
		gp = arg1;

	READ(&status, gp + layout.g_status);
	u8 kind = (status & ~G_SCAN) == G_WAITING ? KIND_BIRTH_PARKED : KIND_BIRTH;

	emit_birth(kind, COOKIE_SITE(cookie), t, REG_G(ctx), gp, REG_IP(ctx));
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

	if (!wanted_at_probe(t))
		return 0;
	count(COUNT_UPROBE);

	u64 cookie = bpf_get_attach_cookie(ctx);
	u64 self = REG_G(ctx), gp = self, arg0 = REG_ARG0(ctx);

	asm volatile("" : "+r"(gp), "+r"(arg0)); // see on_birth
	if (COOKIE_FLAGS(cookie) & SITE_G_IN_ARG0)
		gp = arg0;
	emit_change(KIND_CHANGE, COOKIE_SITE(cookie), 0, t, self, gp, COOKIE_FROM(cookie),
		    COOKIE_TO(cookie));
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

	if (!wanted_at_probe(t))
		return 0;
	count(COUNT_UPROBE);

	u64 gp = REG_ARG0(ctx), self = REG_G(ctx), coro = 0, next = 0;
	u8 exits = 0, site = COOKIE_SITE(bpf_get_attach_cookie(ctx));

	READ(&exits, gp + layout.g_coroexit);
	if (!exits)
		emit_change(KIND_CHANGE, site, 0, t, self, gp, G_RUNNING, G_WAITING);
	READ(&coro, gp + layout.g_coroarg);
	READ(&next, coro + layout.coro_gp);
	if (!next) {
		count(LOST_READ_FAULT);
		return 0;
	}
	emit_change(KIND_CHANGE, site, 0, t, self, next, G_WAITING, G_RUNNING);
	return 0;
}

// The goroutine that is in _Gsyscall and stands at the system call itself, 0 if
// there is none. The register that holds g is not enough: a thread that was just
// cloned still has its creator's there, C code may have anything. So the thread
// must be on that goroutine's own stack; it is not when it runs the scheduler
// (g0), a signal handler (gsignal) or C code. Left out are raw system calls (the
// status is running) and the futex calls of a note sleep (m.blocked), of which
// entersyscallblock has been reported. The callers leave out sched_yield: the
// runtime itself calls it on a goroutine's stack, when casgstatus has to wait for
// the scan bit to be taken away (runtime/proc.go casgstatus, osyield).
INLINE u64 in_syscall(struct user_regs *regs)
{
	u64 g = 0, sp = 0, m = 0, stack[2] = {};
	u32 status = 0;
	u8 blocked = 1;

	bpf_probe_read_kernel(&g, sizeof(g), &REG_G(regs));
	bpf_probe_read_kernel(&sp, sizeof(sp), &REG_SP(regs));
	if (!g || READ(&status, g + layout.g_status) || (status & ~G_SCAN) != G_SYSCALL)
		return 0;
	if (READ(&stack, g + layout.g_stack) || sp < stack[0] || sp >= stack[1])
		return 0;
	if (READ(&m, g + layout.g_m) || READ(&blocked, m + layout.m_blocked) || blocked)
		return 0;
	return g;
}

// sys_enter(regs, nr): a goroutine has entered a system call. Its status is
// already _Gsyscall and only itself can change that. R14 (R28) still is g: the
// runtime's system call stubs keep it. Costs a few tens of ns for processes
// that are not traced.
SEC("raw_tracepoint/sys_enter")
int on_sys_enter(struct raw_tp_ctx *ctx)
{
	struct thread t = current_thread();
	struct user_regs *regs = (void *)ctx->args[0];
	u64 g;

	if (!wanted_at_tracepoint(t))
		return 0;
	count(COUNT_SYSCALL);
	if (ctx->args[1] == NR_SCHED_YIELD)
		return 0;
	g = in_syscall(regs);
	if (g)
		emit_change(KIND_SYSCALL, SITE_NONE, 0, t, g, g, G_RUNNING, G_SYSCALL);
	return 0;
}

// sys_exit(regs, ret): the goroutine comes back. Not the end of the call: a
// return value that only the kernel sees (-ERESTARTSYS -512 to
// -ERESTART_RESTARTBLOCK -516, include/linux/errno.h), after which the kernel
// runs signal handlers or repeats the call; and a return from a signal handler
// (rt_sigreturn) to the SYSCALL instruction itself, which is that repetition.
// User space drops what still comes twice (KIND_SYSCALL).
SEC("raw_tracepoint/sys_exit")
int on_sys_exit(struct raw_tp_ctx *ctx)
{
	struct thread t = current_thread();
	struct user_regs *regs = (void *)ctx->args[0];
	s64 ret = ctx->args[1];
	syscall_insn insn = 0;
	u64 g, ip = 0;
	u32 nr = 0;

	if (!wanted_at_tracepoint(t))
		return 0;
	count(COUNT_SYSCALL);
	if (ret <= -512 && ret >= -516)
		return 0;
	bpf_probe_read_kernel(&nr, sizeof(nr), &REG_NR(regs));
	if (nr == NR_SCHED_YIELD)
		return 0;
	g = in_syscall(regs);
	if (!g)
		return 0;
	bpf_probe_read_kernel(&ip, sizeof(ip), &REG_IP(regs));
	READ(&insn, ip);
	if (insn == SYSCALL_INSN)
		return 0;
	emit_change(KIND_SYSCALL, SITE_NONE, 0, t, g, g, G_SYSCALL, G_RUNNING);
	return 0;
}

// sched_process_exec: the process runs another program now (or the same one
// anew); its goroutines are gone without a word.
SEC("raw_tracepoint/sched_process_exec")
int on_exec(void *ctx)
{
	struct thread t = current_thread();

	(void)ctx;
	if (!wanted_at_tracepoint(t))
		return 0;
	if (!scope.tgid)
		bpf_map_delete_elem(&processes, &t.tgid);

	struct record *r = bpf_ringbuf_reserve(&events, sizeof(*r), 0);

	if (!r) {
		count(LOST_RING_FULL);
		return 0;
	}
	fill(r, KIND_EXEC, SITE_NONE, t, 0, 0, 0);
	r->gopc = 0;
	r->startpc = 0;
	bpf_ringbuf_submit(r, 0);
	return 0;
}

// Keep the contract in the object's type information, from where Go reads it.
const struct record *records __attribute__((unused));
const enum kind *kinds __attribute__((unused));
const enum counter *counter_names __attribute__((unused));

char _license[] SEC("license") = "Dual MIT/GPL";
