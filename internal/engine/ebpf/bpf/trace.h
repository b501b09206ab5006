// SPDX-License-Identifier: MIT OR GPL-2.0
// What every program shares: what is set before load, the maps, and whom to trace.
//
// What it walks: from the current thread to its process, by the ids that the kernel
// gives (bpf_get_current_pid_tgid, or bpf_get_ns_current_pid_tgid where user space is
// in another PID namespace), and from the process to whether it is traced: by
// scope.tgid or, where every process of a binary is traced, by the map `processes`.
#pragma once

#include "event.h"

// Set before load.
const volatile struct runtime_layout layout;
const volatile struct trace_scope scope;
// Whether stacks are taken, and a random number that no program can know, so that
// none can make two of its stacks have one hash. With 0 the verifier removes all
// code for stacks.
const volatile u8 stacks_on;
const volatile u64 stack_seed;

// Whether the programs of uprobes were loaded as such that may sleep (Linux 6.0); those of
// tracepoints never are.
const volatile u8 may_sleep;

// 0 until every probe is in place and again from the moment the trace ends, so
// that the stream never begins or ends with some probes missing.
volatile u32 enabled;

// With stacks_on: not 0 while the trace does without, to spare the target; and while the
// time that stacks take is measured, which takes some time itself.
volatile u8 stacks_off;
volatile u8 stacks_timed;

struct {
	__uint(type, MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 << 20);
} events SEC(".maps");

// A row for each CPU; the size is set before load. User space reads them in its memory, since
// reading a map by a system call has its price: see read_stack.
struct {
	__uint(type, MAP_TYPE_ARRAY);
	__uint(map_flags, MAP_MMAPABLE);
	__uint(max_entries, COUNTER_ROW);
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

INLINE void count_by(u32 which, u64 n)
{
	u32 at = bpf_get_smp_processor_id() * COUNTER_ROW + which;
	u64 *slot = bpf_map_lookup_elem(&counters, &at);

	if (slot)
		*slot += n;
}

INLINE void count(u32 which)
{
	count_by(which, 1);
}

// Where a program runs. Both are known to the compiler, so only AT_UPROBE has code to wait.
enum where {
	AT_TRACEPOINT,
	AT_UPROBE,
};

// Reads user memory; on a fault *dst is zero. A page that is not there just now (it was
// swapped out, it is being moved, a huge page is being made of it) is no fault for the
// program, which would wait for it. So does a uprobe's, which runs where the program is
// about to touch the same memory.
INLINE long read_user(void *dst, u32 size, u64 addr, enum where where)
{
	long err = bpf_probe_read_user(dst, size, (void *)addr);

	if (err && where == AT_UPROBE && may_sleep)
		err = bpf_copy_from_user(dst, size, (void *)addr);
	return err;
}

// A user-memory read of exactly one field.
#define READ(where, dst, addr) read_user((dst), sizeof(*(dst)), (u64)(addr), (where))

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
