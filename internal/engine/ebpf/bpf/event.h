// SPDX-License-Identifier: MIT OR GPL-2.0
// The contract between the programs and Go: the record in the ring, the
// constants set before load, the counters. record_test.go compares every size
// and offset with what Go decodes.
#pragma once

#include "kernel.h"

// What a record says.
enum kind {
	KIND_CHANGE = 1,       // one change of g.atomicstatus
	KIND_ATTEMPT = 2,      // the same, but it may not take place: the compare-and-swap
			       // after the probe can lose to another thread's
	KIND_SYSCALL = 3,      // the same, seen at the system call itself; can repeat when the
			       // kernel restarts a call
	KIND_BIRTH = 4,	       // a goroutine comes to life, runnable
	KIND_BIRTH_PARKED = 5, // the same, but waiting: a coroutine
	KIND_EXEC = 6,	       // the process executes another program: all goroutines are gone
	KIND_RETURN = 7,       // a thread leaves a system call, with a goroutine whose memory is not
			       // there: the one that entered it with this thread and stack
			       // pointer, if one did
};

// One record in the ring. For births, `other` is the parent's goid and the
// last eight bytes are the program counters of the go statement and of the
// start function, as distances from the probed instruction, so that they need
// no load bias; 0 where a distance does not fit (code of a plugin).
struct record {
	u8 kind;
	u8 site; // index of the probe site; SITE_NONE for tracepoints
	s16 p;	 // p.id, -1 when the thread holds no P
	u32 tid;
	u64 time; // CLOCK_MONOTONIC, ns
	u64 goid;
	u64 other; // the waker's goid or the parent's; 0 when there is none
	u32 tgid;
	u32 m; // m.id
	union {
		struct {
			u8 from;
			u8 to;
			u8 reason; // g.waitreason; meaningful when from or to is waiting
			u8 pad;
			u32 sp; // KIND_SYSCALL, KIND_RETURN: low half of the stack pointer
		};
		struct {
			s32 gopc;
			s32 startpc;
		};
	};
};
_Static_assert(sizeof(struct record) == 48, "the ring holds one 48-byte record per change");

// A record of a change that a stack was taken for, when the trace has stacks.
struct stack_record {
	struct record record;
	u64 stack; // key in the map `stacks`; never 0
};
_Static_assert(sizeof(struct stack_record) == 56, "records with a stack are told by their length");

#define SITE_NONE 255

// A stack, as it is kept: return addresses, innermost frame first, as linked.
#define STACK_DEPTH 32
struct stack {
	u32 depth;
	u32 leaf; // whether pcs[1] is a return address only if the function of pcs[0] has no frame
	u64 pcs[STACK_DEPTH];
};

// What read_stack is asked for, and its answer.
struct stack_read {
	u64 key;
	struct stack stack;
};

// An attach cookie: what a program must know of the site that it runs at.
//   bits 0-7 site index, 8-15 from, 16-23 to, 24-31 flags, 32-63 the site's
//   address as linked (an address above 4 GiB does not fit: no stacks then)
#define COOKIE_SITE(c) ((u8)(c))
#define COOKIE_FROM(c) ((u8)((c) >> 8))
#define COOKIE_TO(c) ((u8)((c) >> 16))
#define COOKIE_FLAGS(c) ((u8)((c) >> 24))
#define COOKIE_PC(c) ((c) >> 32)
#define SITE_WAKER 1	 // the thread's current goroutine is the waker
#define SITE_ATTEMPT 2	 // the change may not take place
#define SITE_G_IN_ARG1 4 // on_birth: the new goroutine is the second argument, not the first
#define SITE_G_IN_ARG0 8 // on_self: the goroutine is the first argument, not the current g
#define SITE_PARKS 16	 // on_cas: in park_m, where the goroutine has been saved by mcall

// The statuses that the programs compare with: runtime/runtime2.go, the same
// numbers in Go 1.18 to 1.27.
enum status {
	G_IDLE = 0,
	G_RUNNABLE = 1,
	G_RUNNING = 2,
	G_SYSCALL = 3,
	G_WAITING = 4,
	G_DEAD = 6,
	G_SCAN = 0x1000,
};

// Offsets of the fields read, from the target binary's own type descriptors.
// NO_FIELD where this Go version has no such field.
struct runtime_layout {
	u32 g_stack; // lo and hi, two words
	u32 g_sched_sp;
	u32 g_sched_pc;
	u32 g_sched_bp;
	u32 g_m;
	u32 g_status;
	u32 g_goid;
	u32 g_waitreason;
	u32 g_parent;
	u32 g_gopc;
	u32 g_startpc;
	u32 g_coroarg;
	u32 g_coroexit;
	u32 m_curg;
	u32 m_p;
	u32 m_oldp;
	u32 m_id;
	u32 m_blocked;
	u32 p_id;
	u32 coro_gp;
};
#define NO_FIELD 0xffffffffu

// Whom to trace, and in which PID namespace ids are given.
struct trace_scope {
	u32 tgid; // 0: every process of the binary, see map `processes`
	u32 unused;
	u64 pidns_dev; // 0: the initial PID namespace
	u64 pidns_ino;
	u64 bias; // of the process `tgid`: what to add to an address as linked
};

// In `processes`: nothing is known of the process's bias yet. No bias is odd.
#define BIAS_UNKNOWN 1

// Counters: a slot each in the row of a CPU, of whole cache lines. Losses have a counter per cause.
enum counter {
	COUNT_UPROBE,	 // uprobe programs run
	COUNT_SYSCALL,	 // tracepoint programs run in a traced process
	COUNT_EVENTS,	 // records submitted
	LOST_RING_FULL,	 // no room in the ring
	LOST_READ_FAULT, // the target's memory could not be read
	LOST_PROCESSES,	 // no room in `processes`: a process is not traced
	NO_STACK_ROOM,	 // no room in `stacks`: an event without its stack
	NO_STACK_READ,	 // the stack was not readable, or not what it has to be
	NO_STACK_BUDGET, // an event without its stack, as stacks_off is set
	COUNT_STACK,	 // stacks walked
	TIMED_STACK,	 // of these, those that were timed, and in how many ns:
	NS_UPROBE_STACK, // in the programs of uprobes
	NS_SYSCALL_STACK, // in those of tracepoints
	NS_CLOCK,	 // and what of both it took to read the clock
	COUNTERS,
	COUNTER_ROW = 16, // slots of a row
};
_Static_assert(COUNTERS <= COUNTER_ROW, "each counter has a slot");
