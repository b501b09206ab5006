// SPDX-License-Identifier: MIT OR GPL-2.0
// What the programs need of the kernel: types, map and section macros, helper
// numbers and register layouts. Everything here is part of the kernel's stable
// interface (include/uapi/linux/bpf.h, arch/*/include/uapi/asm/ptrace.h), so
// the programs need neither vmlinux.h nor BTF of the running kernel.
#pragma once

typedef signed char s8;
typedef unsigned char u8;
typedef short s16;
typedef unsigned short u16;
typedef int s32;
typedef unsigned int u32;
typedef long long s64;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))

// BTF map definitions: the loader reads the attributes from the types.
#define __uint(name, val) int(*name)[val]
#define __type(name, val) typeof(val) *name
#define MAP_TYPE_HASH 1
#define MAP_TYPE_ARRAY 2
#define MAP_MMAPABLE 1024 // user space can map it into its memory
#define MAP_TYPE_RINGBUF 27

// bpf_ringbuf_submit and bpf_ringbuf_discard: leave the reader asleep.
#define RB_NO_WAKEUP 1

// bpf_map_update_elem: only if the key is not there, else -EEXIST.
#define MAP_NOEXIST 1
#define EEXIST 17

// Helpers, by their number in enum bpf_func_id. All are in Linux 5.15, and
// bpf_copy_from_user is for programs that may sleep only.
static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*const bpf_map_update_elem)(void *map, const void *key, const void *value,
					 u64 flags) = (void *)2;
static long (*const bpf_map_delete_elem)(void *map, const void *key) = (void *)3;
static u64 (*const bpf_ktime_get_ns)(void) = (void *)5;
static u32 (*const bpf_get_smp_processor_id)(void) = (void *)8;
static u64 (*const bpf_get_current_pid_tgid)(void) = (void *)14;
static long (*const bpf_probe_read_user)(void *dst, u32 size, const void *src) = (void *)112;
static long (*const bpf_probe_read_kernel)(void *dst, u32 size, const void *src) = (void *)113;
struct pidns_info {
	u32 pid;
	u32 tgid;
};
static long (*const bpf_get_ns_current_pid_tgid)(u64 dev, u64 ino, struct pidns_info *nsdata,
						 u32 size) = (void *)120;
static void *(*const bpf_ringbuf_reserve)(void *ringbuf, u64 size, u64 flags) = (void *)131;
static void (*const bpf_ringbuf_submit)(void *data, u64 flags) = (void *)132;
static long (*const bpf_copy_from_user)(void *dst, u32 size, const void *src) = (void *)148;
static void *(*const bpf_get_current_task_btf)(void) = (void *)158;
static u64 (*const bpf_get_attach_cookie)(void *ctx) = (void *)174;
static void *(*const bpf_task_pt_regs)(void *task) = (void *)175;

// The context of a raw tracepoint: its arguments as the kernel passes them.
struct raw_tp_ctx {
	u64 args[2];
};

// What a program at a tracepoint's perf event gets: events/raw_syscalls/*/format in tracefs
// (include/trace/events/syscalls.h), of which the first 8 bytes are not for programs.
struct sys_enter_event {
	u64 common;
	u64 nr;
};
struct sys_exit_event {
	u64 common;
	u64 nr;
	s64 ret;
};

// The interrupted thread's user registers, as a uprobe program receives them
// and as the first argument of the raw sys_enter and sys_exit tracepoints and
// bpf_task_pt_regs point to.
//
// REG_ARG0..2 are the first integer arguments of Go's register ABI
// (cmd/compile/abi-internal.md), REG_G is the register that holds the current
// g, REG_SP the stack pointer, REG_BP the frame pointer, REG_IP the instruction
// pointer. BELOW_SP is how far below the stack pointer a function's saved frame
// pointer is: on arm64 it is the word below the frame, which no other function writes
// to (cmd/internal/obj/arm64/obj7.go preprocess, Go 1.18 to 1.27).
#if defined(__TARGET_ARCH_x86)

struct user_regs {
	u64 r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di;
	u64 orig_ax, ip, cs, flags, sp, ss;
};
#define REG_ARG0(r) ((r)->ax)
#define REG_ARG1(r) ((r)->bx)
#define REG_ARG2(r) ((r)->cx)
#define REG_G(r) ((r)->r14)
#define REG_SP(r) ((r)->sp)
#define REG_BP(r) ((r)->bp)
#define REG_IP(r) ((r)->ip)
#define BELOW_SP 0
// The number of the system call that is being left: struct pt_regs of the
// kernel only, not the context of a uprobe.
#define REG_NR(r) ((r)->orig_ax)
#define NR_SCHED_YIELD 24
// SYSCALL, the two bytes 0f 05.
#define SYSCALL_INSN 0x050f
typedef u16 syscall_insn;

#elif defined(__TARGET_ARCH_arm64)

struct user_regs {
	u64 regs[31], sp, pc, pstate;
	u64 orig_x0, syscallno; // of the kernel's struct pt_regs, not of a uprobe's context
};
#define REG_ARG0(r) ((r)->regs[0])
#define REG_ARG1(r) ((r)->regs[1])
#define REG_ARG2(r) ((r)->regs[2])
#define REG_G(r) ((r)->regs[28])
#define REG_SP(r) ((r)->sp)
#define REG_BP(r) ((r)->regs[29])
#define REG_LR(r) ((r)->regs[30]) // where a function without a frame returns to
#define REG_IP(r) ((r)->pc)
#define BELOW_SP 8
#define REG_NR(r) ((r)->syscallno) // its low half; the high half is not used
#define NR_SCHED_YIELD 124
// SVC #0.
#define SYSCALL_INSN 0xd4000001
typedef u32 syscall_insn;

#else
#error "unknown architecture"
#endif
