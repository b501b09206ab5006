package ebpf

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// tracepointsBy is how the kernel calls the programs that are not in the target: as raw
// tracepoints, or through perf events. From 7.0 on Linux can put a program at a raw tracepoint
// off its CPU (include/linux/tracepoint.h, __DECLARE_TRACE; commit a46023d5616e), and meanwhile
// skips it for every other thread there (kernel/trace/bpf_trace.c, __bpf_trace_run): system
// calls would be missing. One of a perf event still runs to its end first (include/trace/perf.h,
// perf_trace_##call), but makes every system call of the system dearer: so before 7.0 they
// are raw.
type tracepointsBy int

const (
	byKernel     tracepointsBy = iota // as is best for the kernel
	byRaw                             // raw tracepoints
	byPerfEvents                      // perf events, or none
)

// perfSince is the major version of Linux from which on perf events are better.
const perfSince = 7

// tracepoint is one that has a program, by the names in the embedded object.
type tracepoint struct {
	group, name string
	raw, perf   string
}

func tracepoints() []tracepoint {
	return []tracepoint{
		{"sched", "sched_process_exec", "on_exec", "perf_exec"},
		{"raw_syscalls", "sys_enter", "on_sys_enter", "perf_sys_enter"},
		{"raw_syscalls", "sys_exit", "on_sys_exit", "perf_sys_exit"},
	}
}

// perfEvents are those of the tracepoints, in order, without programs; nil where the programs
// are to be raw.
type perfEvents []*os.File

// openPerfEvents opens the tracepoints' perf events, before the programs are loaded, since those
// are of another type. why says why there are none, where they would have been better.
func openPerfEvents(by tracepointsBy) (events perfEvents, why error, err error) {
	if major, _, _ := kernelVersion(); by == byRaw || by == byKernel && major < perfSince {
		return nil, nil, nil
	}
	events, why = newPerfEvents()
	if by == byPerfEvents {
		return events, nil, why
	}
	return events, why, nil
}

func newPerfEvents() (events perfEvents, err error) {
	if err := haveTaskRegs(); err != nil {
		return nil, err
	}
	root, err := openTracefs()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	for _, tp := range tracepoints() {
		event, err := openPerfEvent(root, tp)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("tracepoint %s: %w", tp.name, err), events.Close())
		}
		events = append(events, event)
	}
	return events, nil
}

// openPerfEvent opens that of one tracepoint, disabled. The kernel calls a program of it on
// every CPU (include/trace/perf.h, do_perf_trace_##call), whatever the event's own CPU is.
func openPerfEvent(tracefs *os.File, tp tracepoint) (*os.File, error) {
	id, err := readTracefs(tracefs, "events/"+tp.group+"/"+tp.name+"/id")
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseUint(string(bytes.TrimSpace(id)), 10, 64)
	if err != nil {
		return nil, err
	}
	attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_TRACEPOINT, Size: unix.PERF_ATTR_SIZE_VER0, Config: n, Sample_type: unix.PERF_SAMPLE_RAW, Sample: 1, Bits: unix.PerfBitDisabled}
	fd, err := unix.PerfEventOpen(&attr, -1, 0, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("perf_event_open", err)
	}
	return os.NewFile(uintptr(fd), tp.name), nil
}

// openTracefs opens the root of tracefs: where it is usually mounted, or by a mount that has no
// place and ends with the descriptor.
func openTracefs() (*os.File, error) {
	for _, path := range []string{"/sys/kernel/tracing", "/sys/kernel/debug/tracing"} {
		f, err := os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			continue
		}
		var st unix.Statfs_t
		if err := unix.Fstatfs(int(f.Fd()), &st); err == nil && st.Type == unix.TRACEFS_MAGIC {
			return f, nil
		}
		f.Close()
	}
	config, err := unix.Fsopen("tracefs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("tracefs is not mounted: %w", err)
	}
	defer unix.Close(config)
	if err := unix.FsconfigCreate(config); err != nil {
		return nil, fmt.Errorf("tracefs is not mounted: %w", err)
	}
	fd, err := unix.Fsmount(config, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("tracefs is not mounted: %w", err)
	}
	return os.NewFile(uintptr(fd), "tracefs"), nil
}

func readTracefs(root *os.File, name string) ([]byte, error) {
	fd, err := unix.Openat(int(root.Fd()), name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "tracefs " + name, Err: err}
	}
	defer unix.Close(fd)
	buf := make([]byte, 32)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return nil, &os.PathError{Op: "read", Path: "tracefs " + name, Err: err}
	}
	return buf[:n], nil
}

// haveTaskRegs says why a program cannot get at the registers of its thread by itself, which
// takes the kernel's type information (kernel/trace/bpf_trace.c, bpf_task_pt_regs; Linux 5.15).
func haveTaskRegs() error {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.TracePoint,
		Instructions: asm.Instructions{
			asm.FnGetCurrentTaskBtf.Call(), asm.Mov.Reg(asm.R1, asm.R0), asm.FnTaskPtRegs.Call(),
			asm.Mov.Imm(asm.R0, 0), asm.Return(),
		},
		License:       "GPL",
		KernelVersion: anyKernel,
	})
	if err != nil {
		return fmt.Errorf("registers of a thread: %w", explain(err))
	}
	return prog.Close()
}

// choose leaves those programs in the object that are for the events, by the names of the raw
// ones; the others are not loaded.
func (e perfEvents) choose(spec *ebpf.CollectionSpec) {
	for _, tp := range tracepoints() {
		if e != nil {
			spec.Programs[tp.raw] = spec.Programs[tp.perf]
		}
		delete(spec.Programs, tp.perf)
	}
}

// Close closes those that have no program: one that has stays with its link.
func (e perfEvents) Close() error {
	var errs []error
	for _, f := range e {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// attachTracepoints attaches the programs that are not in the target, to the events if there
// are some.
func (l *links) attachTracepoints(objs *objects, events perfEvents) error {
	progs := objs.atTracepoints()
	for i, tp := range tracepoints() {
		var got link.Link
		var err error
		if events == nil {
			got, err = link.AttachRawTracepoint(link.RawTracepointOptions{Name: tp.name, Program: progs[i]})
		} else {
			got, err = attachToEvent(events[i], progs[i])
		}
		if err != nil {
			return fmt.Errorf("attach tracepoint %s: %w", tp.name, err)
		}
		*l = append(*l, got)
	}
	return nil
}

// attachToEvent gives a perf event its program and enables it. The link holds the event.
func attachToEvent(event *os.File, prog *ebpf.Program) (link.Link, error) {
	fd := int(event.Fd())
	got, err := link.AttachRawLink(link.RawLinkOptions{Target: fd, Program: prog, Attach: ebpf.AttachPerfEvent})
	if err != nil {
		return nil, err
	}
	if err := unix.IoctlSetInt(fd, unix.PERF_EVENT_IOC_ENABLE, 0); err != nil {
		return nil, errors.Join(fmt.Errorf("enable: %w", err), got.Close())
	}
	return got, nil
}
