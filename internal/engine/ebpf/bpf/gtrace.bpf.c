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
// Whether stacks are taken, and a random number that no program can know, so that
// none can make two of its stacks have one hash. With 0 the verifier removes all
// code for stacks.
const volatile u8 stacks_on;
const volatile u64 stack_seed;

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
// whose calls to look at. The value is the bias of its executable: addresses of
// stacks are kept as linked, so that all processes share them. User space removes
// a process when it is gone.
struct {
	__uint(type, MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, u32);
	__type(value, u64);
} processes SEC(".maps");

// Each stack once, by its hash. User space reads one when a record first names it;
// none is removed. The size is set before load, to 1 without stacks.
struct {
	__uint(type, MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, u64);
	__type(value, struct stack);
} stacks SEC(".maps");

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
INLINE int wanted_at_probe(struct user_regs *ctx, struct thread t)
{
	u64 bias = BIAS_UNKNOWN, *known;

	if (!enabled || !t.tgid)
		return 0;
	if (scope.tgid)
		return t.tgid == scope.tgid;
	known = bpf_map_lookup_elem(&processes, &t.tgid);
	if (known && (!stacks_on || *known != BIAS_UNKNOWN))
		return 1;
	if (stacks_on)
		bias = REG_IP(ctx) - COOKIE_PC(bpf_get_attach_cookie(ctx));
	if (bpf_map_update_elem(&processes, &t.tgid, &bias, 0)) {
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

// Where the walk of a stack begins; g is 0 where there is none.
struct origin {
	u64 g;	  // whose stack it is
	u64 sp;	  // no frame is below
	u64 bp;	  // the first saved frame pointer; above it is a return address
	u64 pc;	  // the first return address
	u64 leaf; // the second one, if the function of the first has no frame; 0 elsewhere
};

// Of a goroutine whose registers mcall or systemstack saved: it is not running, or
// not on its own stack.
INLINE void saved(struct origin *at, u64 gp)
{
	if (READ(&at->sp, gp + layout.g_sched_sp) || READ(&at->pc, gp + layout.g_sched_pc) ||
	    READ(&at->bp, gp + layout.g_sched_bp)) {
		count(NO_STACK_READ);
		return;
	}
	at->g = gp;
}

// Of a goroutine that stands at a probed call. Its return address would be the
// next instruction; any address within the call says the same.
INLINE void at_call(struct origin *at, struct user_regs *ctx, u64 gp)
{
	at->g = gp;
	at->sp = REG_SP(ctx);
	at->bp = REG_BP(ctx);
	at->pc = REG_IP(ctx) + 1;
}

// Of the goroutine that executes a go statement, when newproc1 has made goroutine
// gp on the system stack (runtime/proc.go newproc, runtime/coro.go newcoro).
// systemstack has saved the parent's registers (runtime/asm_*.s
// gosave_systemstack_switch). Its frame pointer is newproc's, or on arm64 that of
// systemstack itself, which is called by newproc. What newproc returns to must be
// g.gopc: if it is not, newproc was called on the system stack already (a timer's
// function, the first goroutine of all), and what is saved there is of another time.
INLINE void at_go(struct origin *at, u64 self, u64 gp)
{
	u64 m = 0, parent = 0, gopc = 0, frame[2] = {};

	if (READ(&m, self + layout.g_m) || READ(&parent, m + layout.m_curg) || !parent ||
	    parent == self)
		return;
	if (READ(&gopc, gp + layout.g_gopc) || READ(&at->sp, parent + layout.g_sched_sp) ||
	    READ(&at->bp, parent + layout.g_sched_bp) || !at->sp || at->bp < at->sp ||
	    READ(&frame, at->bp))
		goto none;
	if (frame[1] != gopc) {
		if (frame[0] <= at->bp)
			goto none;
		at->bp = frame[0];
		if (READ(&frame, at->bp) || frame[1] != gopc)
			goto none;
	}
	at->g = parent;
	at->sp = at->bp + sizeof(frame);
	at->bp = frame[0];
	at->pc = gopc;
	return;
none:
	count(NO_STACK_READ);
}

// The bias of the process of thread t; BIAS_UNKNOWN if it is not known.
INLINE u64 bias_of(struct thread t)
{
	u64 *known;

	if (scope.tgid)
		return scope.bias;
	known = bpf_map_lookup_elem(&processes, &t.tgid);
	return known ? *known : BIAS_UNKNOWN;
}

// Keeps the stack, once. Returns 0 where there is no room.
INLINE u64 keep(const struct stack *s, u64 hash)
{
	long err;

	if (!hash)
		hash = 1;
	if (bpf_map_lookup_elem(&stacks, &hash))
		return hash;
	err = bpf_map_update_elem(&stacks, &hash, s, MAP_NOEXIST);
	if (err && err != -EEXIST) {
		count(NO_STACK_ROOM);
		return 0;
	}
	return hash;
}

// Walks the frame pointers from an origin and returns the key of the stack, 0 if
// there is none. Go keeps frame pointers on both architectures: a saved one and
// the return address above it. The walk goes only upwards and only within g.stack,
// so it ends, whatever the memory says; it is no use to anybody else while this
// thread stands here. Where it ends early, at a callback from C, the stack is
// shorter, not wrong. Bound: STACK_DEPTH reads of 16 bytes.
INLINE u64 walk(const struct origin *at, struct thread t, int leaf)
{
	u64 hash = stack_seed + leaf, bounds[2] = {}, frame[2];
	u64 pc = at->pc, bp = at->bp, low = at->sp, bias;

	if (!at->g)
		return 0;
	bias = bias_of(t);
	if (bias == BIAS_UNKNOWN || READ(&bounds, at->g + layout.g_stack) || low < bounds[0] ||
	    low >= bounds[1]) {
		count(NO_STACK_READ);
		return 0;
	}
	// On the stack of this program: a per-CPU map would be shared with a program
	// that another thread runs when this one is put off its CPU.
	struct stack s = {.leaf = leaf};

#pragma nounroll
	for (int i = 0; i < STACK_DEPTH; i++) {
		s.pcs[i] = pc - bias;
		s.depth = i + 1;
		hash = (hash ^ (pc - bias)) * 0x9e3779b97f4a7c15ULL;
		hash ^= hash >> 32;
		if (leaf && i == 0) {
			pc = at->leaf;
			continue;
		}
		if (bp < low || bp > bounds[1] - sizeof(frame) || bp % 8)
			break;
		if (READ(&frame, bp)) {
			count(NO_STACK_READ);
			return 0;
		}
		low = bp + sizeof(frame);
		bp = frame[0];
		pc = frame[1];
		if (!pc)
			break;
	}
	return keep(&s, hash);
}

// Room for a record in the ring, with its stack if it has one.
INLINE struct record *reserve(u64 stack)
{
	if (stacks_on && stack) {
		struct stack_record *r = bpf_ringbuf_reserve(&events, sizeof(*r), 0);

		if (!r)
			return 0;
		r->stack = stack;
		return &r->record;
	}
	return bpf_ringbuf_reserve(&events, sizeof(struct record), 0);
}

// Emits the change of goroutine gp from one status to another, made by the
// thread whose current g is self, with the stack of that key, if not 0.
INLINE void emit_change(u8 kind, u8 site, u8 flags, struct thread t, u64 self, u64 gp, u8 from,
			u8 to, u64 stack)
{
	u64 goid = 0, m = 0;

	if (READ(&goid, gp + layout.g_goid) || READ(&m, self + layout.g_m)) {
		count(LOST_READ_FAULT);
		return;
	}
	struct record *r = reserve(stack);

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
// 1.24, the goid when it calls casgstatus; the site is chosen accordingly. The
// stack is the parent's.
INLINE void emit_birth(u8 kind, u8 site, struct thread t, u64 self, u64 gp, u64 ip, u64 stack)
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

	struct record *r = reserve(stack);

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
		stack = walk(&at, t, 0);
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

	READ(&status, gp + layout.g_status);
	u8 kind = (status & ~G_SCAN) == G_WAITING ? KIND_BIRTH_PARKED : KIND_BIRTH;

	if (stacks_on) {
		struct origin at = {};

		at_go(&at, REG_G(ctx), gp);
		stack = walk(&at, t, 0);
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
		stack = walk(&at, t, 0);
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

	READ(&exits, gp + layout.g_coroexit);
	if (!exits)
		emit_change(KIND_CHANGE, site, 0, t, self, gp, G_RUNNING, G_WAITING, 0);
	READ(&coro, gp + layout.g_coroarg);
	READ(&next, coro + layout.coro_gp);
	if (!next) {
		count(LOST_READ_FAULT);
		return 0;
	}
	emit_change(KIND_CHANGE, site, 0, t, self, next, G_WAITING, G_RUNNING, 0);
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

// Of the goroutine that stands at a system call, after the instruction. The
// function there is a stub in assembly code. Most have no frame: then they return
// to what is at the stack pointer (on arm64, in the link register), and the frame
// pointer is their caller's. User space has the function table, which knows.
INLINE void at_syscall(struct origin *at, struct user_regs *regs, u64 gp)
{
	bpf_probe_read_kernel(&at->sp, sizeof(at->sp), &REG_SP(regs));
	bpf_probe_read_kernel(&at->bp, sizeof(at->bp), &REG_BP(regs));
	bpf_probe_read_kernel(&at->pc, sizeof(at->pc), &REG_IP(regs));
#ifdef REG_LR
	bpf_probe_read_kernel(&at->leaf, sizeof(at->leaf), &REG_LR(regs));
#else
	if (READ(&at->leaf, at->sp)) {
		count(NO_STACK_READ);
		return;
	}
#endif
	at->g = gp;
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
	u64 g, stack = 0;

	if (!wanted_at_tracepoint(t))
		return 0;
	count(COUNT_SYSCALL);
	if (ctx->args[1] == NR_SCHED_YIELD)
		return 0;
	g = in_syscall(regs);
	if (!g)
		return 0;
	if (stacks_on) {
		struct origin at = {};

		at_syscall(&at, regs, g);
		stack = walk(&at, t, 1);
	}
	emit_change(KIND_SYSCALL, SITE_NONE, 0, t, g, g, G_RUNNING, G_SYSCALL, stack);
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
	emit_change(KIND_SYSCALL, SITE_NONE, 0, t, g, g, G_SYSCALL, G_RUNNING, 0);
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
const struct stack_record *stack_records __attribute__((unused));
const enum kind *kinds __attribute__((unused));
const enum counter *counter_names __attribute__((unused));

char _license[] SEC("license") = "Dual MIT/GPL";
