// SPDX-License-Identifier: MIT OR GPL-2.0
//go:build ignore

// The design that gopherscope is measured against: one uprobe at the entry of
// runtime.casgstatus, one ring buffer record a hit, and the reader woken for
// each. It sees what passes through casgstatus only, and knows no wait reason.
#include "kernel.h"

struct event {
	u64 time;
	u64 goid;
	u32 tid;
	u32 tgid;
	u32 state;
	u32 unused;
};

const volatile u32 off_goid;

// Hits for which the ring had no room.
volatile u64 lost;

struct {
	__uint(type, MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 << 20);
} events SEC(".maps");

SEC("uprobe")
int on_casgstatus(struct user_regs *ctx)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e) {
		__sync_fetch_and_add(&lost, 1);
		return 0;
	}
	u64 id = bpf_get_current_pid_tgid();

	e->time = bpf_ktime_get_ns();
	e->goid = 0;
	bpf_probe_read_user(&e->goid, sizeof(e->goid), (void *)(REG_ARG0(ctx) + off_goid));
	e->tid = (u32)id;
	e->tgid = id >> 32;
	e->state = REG_ARG2(ctx);
	e->unused = 0;
	bpf_ringbuf_submit(e, 0);
	return 0;
}

// At gopherscope's own probe sites: the cost of the traps alone.
SEC("uprobe")
int empty(struct user_regs *ctx)
{
	(void)ctx;
	return 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
