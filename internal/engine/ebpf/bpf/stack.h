// SPDX-License-Identifier: MIT OR GPL-2.0
// The stack of a goroutine, by its frame pointers.
//
// What it walks. An origin says where the walk begins: g.sched (what mcall or
// systemstack saved), or the registers of a thread that is on the goroutine's own
// stack. From there each saved frame pointer leads to the frame of the caller, with
// the return address above it, within g.stack. The return addresses, less the bias of
// the process, are the stack; it is kept once in the map `stacks`, by its hash.
#pragma once

#include "trace.h"

// Where the walk of a stack begins; g is 0 where there is none.
struct origin {
	u64 g;	  // whose stack it is
	u64 sp;	  // no frame is below, but for what BELOW_SP says
	u64 bp;	  // the first saved frame pointer; above it is a return address
	u64 pc;	  // the first return address
	u64 leaf; // the second one, if the function of the first has no frame; 0 elsewhere
	u64 begun; // when it was begun, less what it takes to find that out; 0 if it is not timed
	u64 clock; // what it takes to read the clock, ns
};

// Whether a stack is taken now. It is counted if not, and if so timed when that is wanted:
// the clock is read three times in all, here and in walk.
INLINE int take(struct origin *at)
{
	u64 first, now;

	if (stacks_off) {
		count(NO_STACK_BUDGET);
		return 0;
	}
	if (stacks_timed) {
		first = bpf_ktime_get_ns();
		now = bpf_ktime_get_ns();
		at->clock = now - first;
		at->begun = now - 2 * at->clock;
	}
	return 1;
}

// Of a goroutine whose registers mcall or systemstack saved: it is not running, or
// not on its own stack.
INLINE void saved(struct origin *at, u64 gp)
{
	if (!take(at))
		return;
	if (READ(AT_UPROBE, &at->sp, gp + layout.g_sched_sp) || READ(AT_UPROBE, &at->pc, gp + layout.g_sched_pc) ||
	    READ(AT_UPROBE, &at->bp, gp + layout.g_sched_bp)) {
		count(NO_STACK_READ);
		return;
	}
	at->g = gp;
}

// Of a goroutine that stands at a probed call. Its return address would be the
// next instruction; any address within the call says the same.
INLINE void at_call(struct origin *at, struct user_regs *ctx, u64 gp)
{
	if (!take(at))
		return;
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

	if (READ(AT_UPROBE, &m, self + layout.g_m) || READ(AT_UPROBE, &parent, m + layout.m_curg) || !parent ||
	    parent == self || !take(at))
		return;
	if (READ(AT_UPROBE, &gopc, gp + layout.g_gopc) || READ(AT_UPROBE, &at->sp, parent + layout.g_sched_sp) ||
	    READ(AT_UPROBE, &at->bp, parent + layout.g_sched_bp) || !at->sp ||
	    at->bp < at->sp - BELOW_SP || READ(AT_UPROBE, &frame, at->bp))
		goto none;
	if (frame[1] != gopc) {
		if (frame[0] <= at->bp)
			goto none;
		at->bp = frame[0];
		if (READ(AT_UPROBE, &frame, at->bp) || frame[1] != gopc)
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

// Of the goroutine that stands at a system call, after the instruction. The
// function there is a stub in assembly code. Most have no frame: then they return
// to what is at the stack pointer (on arm64, in the link register), and the frame
// pointer is their caller's. User space has the function table, which knows.
INLINE void at_syscall(struct origin *at, struct user_regs *regs, u64 gp)
{
	if (!take(at))
		return;
	bpf_probe_read_kernel(&at->sp, sizeof(at->sp), &REG_SP(regs));
	bpf_probe_read_kernel(&at->bp, sizeof(at->bp), &REG_BP(regs));
	bpf_probe_read_kernel(&at->pc, sizeof(at->pc), &REG_IP(regs));
#ifdef REG_LR
	bpf_probe_read_kernel(&at->leaf, sizeof(at->leaf), &REG_LR(regs));
#else
	if (READ(AT_TRACEPOINT, &at->leaf, at->sp)) {
		count(NO_STACK_READ);
		return;
	}
#endif
	at->g = gp;
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
INLINE u64 climb(const struct origin *at, struct thread t, enum where where)
{
	int leaf = where == AT_TRACEPOINT; // the functions that make system calls
	u64 hash = stack_seed + leaf, bounds[2] = {}, frame[2];
	u64 pc = at->pc, bp = at->bp, low = at->sp - BELOW_SP, bias;

	bias = bias_of(t);
	if (bias == BIAS_UNKNOWN || READ(where, &bounds, at->g + layout.g_stack) || low < bounds[0] ||
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
		if (READ(where, &frame, bp)) {
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

// The stack from an origin, as climb; 0 also if there is no origin.
INLINE u64 walk(const struct origin *at, struct thread t, enum where where)
{
	u64 key;

	if (!at->g)
		return 0;
	count(COUNT_STACK);
	key = climb(at, t, where);
	if (at->begun) {
		count(TIMED_STACK);
		count_by(where == AT_TRACEPOINT ? NS_SYSCALL_STACK : NS_UPROBE_STACK, bpf_ktime_get_ns() - at->begun);
		count_by(NS_CLOCK, 3 * at->clock);
	}
	return key;
}
