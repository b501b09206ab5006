// SPDX-License-Identifier: MIT OR GPL-2.0
// The records: filled from the runtime's structs and put into the ring.
//
// What it walks. Go keeps the current goroutine in a register (REG_G). While the
// scheduler works, that is the thread's g0, not a user goroutine; both have g.m, the
// thread. From m: m.id, m.curg (the user goroutine that the thread works for, so the
// one that wakes another, or that executes newproc1) and m.p, the processor, if any.
// The goroutine that a record is about is an argument of the function at the probe;
// from it: g.goid, g.waitreason and, at a birth, g.parentGoid, g.gopc, g.startpc.
#pragma once

#include "trace.h"

// A goroutine that stands at a system call.
struct call {
	u64 g;
	u64 goid;
	u64 m;
	u64 sp; // the thread's
};

// Who makes a change.
struct maker {
	u32 m;
	s16 p;
};

// The maker whose M is at address m, which may be 0. A thread that has entered a
// system call holds no P before Go 1.26; use_oldp takes the one that it held. All is
// read before there is room for the record, since nobody can read the ring beyond a record
// that waits for memory.
INLINE struct maker maker_of(u64 m, u8 use_oldp, enum where where)
{
	u64 id = 0, p = 0;
	s32 pid = -1;

	if (m) {
		READ(where, &id, m + layout.m_id);
		READ(where, &p, m + layout.m_p);
		if (!p && use_oldp)
			READ(where, &p, m + layout.m_oldp);
		if (p)
			READ(where, &pid, p + layout.p_id);
	}
	return (struct maker){.m = (u32)id, .p = (s16)pid};
}

// Fills what every record has.
INLINE void fill(struct record *r, u8 kind, u8 site, struct thread t, u64 goid, struct maker by)
{
	r->kind = kind;
	r->site = site;
	r->tid = t.tid;
	r->tgid = t.tgid;
	r->time = bpf_ktime_get_ns();
	r->goid = goid;
	r->other = 0;
	r->m = by.m;
	r->p = by.p;
}

// The goid of the user goroutine that m works for; 0 when there is none.
INLINE u64 current_goid(u64 m, enum where where)
{
	u64 curg = 0, goid = 0;

	READ(where, &curg, m + layout.m_curg);
	if (curg)
		READ(where, &goid, curg + layout.g_goid);
	return goid;
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
	u64 goid = 0, m = 0, other = 0;
	u8 reason = 0;

	if (READ(AT_UPROBE, &goid, gp + layout.g_goid) ||
	    READ(AT_UPROBE, &m, self + layout.g_m)) {
		count(LOST_READ_FAULT);
		return;
	}
	if (from == G_WAITING || to == G_WAITING)
		READ(AT_UPROBE, &reason, gp + layout.g_waitreason);
	if (flags & SITE_WAKER)
		other = current_goid(m, AT_UPROBE);

	struct maker by = maker_of(m, to == G_SYSCALL, AT_UPROBE);
	struct record *r = reserve(stack);

	if (!r) {
		count(LOST_RING_FULL);
		return;
	}
	fill(r, kind, site, t, goid, by);
	r->other = other;
	r->from = from;
	r->to = to;
	r->reason = reason;
	r->pad = 0;
	r->sp = 0;
	bpf_ringbuf_submit(r, RB_NO_WAKEUP);
	count(COUNT_EVENTS);
}

// Emits the beginning or the end of a system call, with what in_syscall has found.
INLINE void emit_syscall(u8 kind, struct thread t, const struct call *c, u8 from, u8 to, u64 stack)
{
	struct maker by = maker_of(c->m, to == G_SYSCALL, AT_TRACEPOINT);
	struct record *r = reserve(stack);

	if (!r) {
		count(LOST_RING_FULL);
		return;
	}
	fill(r, kind, SITE_NONE, t, c->goid, by);
	r->from = from;
	r->to = to;
	r->reason = 0;
	r->pad = 0;
	r->sp = (u32)c->sp;
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

	if (READ(AT_UPROBE, &goid, gp + layout.g_goid) ||
	    READ(AT_UPROBE, &m, self + layout.g_m) ||
	    READ(AT_UPROBE, &gopc, gp + layout.g_gopc) ||
	    READ(AT_UPROBE, &startpc, gp + layout.g_startpc)) {
		count(LOST_READ_FAULT);
		return;
	}
	// g.parentGoid is there since Go 1.21. Before, the creator is the user
	// goroutine of the thread that executes newproc1.
	if (layout.g_parent != NO_FIELD)
		READ(AT_UPROBE, &parent, gp + layout.g_parent);
	else
		parent = current_goid(m, AT_UPROBE);

	struct maker by = maker_of(m, 0, AT_UPROBE);
	struct record *r = reserve(stack);

	if (!r) {
		count(LOST_RING_FULL);
		return;
	}
	fill(r, kind, site, t, goid, by);
	r->other = parent;
	r->gopc = distance(gopc, ip);
	r->startpc = distance(startpc, ip);
	bpf_ringbuf_submit(r, RB_NO_WAKEUP);
	count(COUNT_EVENTS);
}
