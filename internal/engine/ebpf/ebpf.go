// Package ebpf is the engine that sees status changes through the kernel: a
// uprobe program at every place where the runtime changes g.atomicstatus, and
// tracepoint programs at system calls. bpf/gtrace.bpf.c is the kernel's half;
// plan.go says where it is attached, sequence.go makes events of its records.
//
// The kernel guarantees the safety of the target: the programs are verified
// and cannot write, the breakpoints are the kernel's own and vanish when this
// process does. When that is killed just while it attaches or detaches, the kernel
// may leave them there, read by nobody: Clean removes them, and so does the next trace.
//
// Needs CAP_BPF and CAP_PERFMON (or root) and Linux 5.15. From 6.6 on, with the
// fix of its PID filter, all sites are attached through uprobe_multi links;
// before, each through a perf event.
package ebpf

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"gopherscope/internal/clock"
	"gopherscope/internal/engine"
	"gopherscope/internal/engine/probes"
	"gopherscope/internal/event"
	"gopherscope/internal/process"
	"gopherscope/internal/target"
)

// DefaultRingBytes is the size of the ring between kernel and reader: room for
// 300 thousand events, several times what two busy CPUs emit between two polls.
const DefaultRingBytes = 16 << 20

// Options are the choices that a trace has; nil means the defaults.
type Options struct {
	// RingBytes is the size of the ring; rounded up to a power of two of at
	// least one page. 0 means DefaultRingBytes.
	RingBytes int

	// Stacks has the stack of each goroutine that parks or enters a system call or C
	// code, and of the parent at each birth, up to 32 frames deep: see Engine.Stack.
	Stacks bool

	// PerfEvents attaches through perf events also where uprobe_multi works.
	PerfEvents bool

	// PIDNamespace is the namespace of the process ids in events and of the
	// target's; nil for the initial one.
	PIDNamespace *process.PIDNamespace

	stackRoom     uint32        // how many stacks the kernel keeps; 0 means maxStacks
	tracepointsBy tracepointsBy // how the programs that are not in the target are attached
}

// Engine is a running trace. It implements engine.Engine.
type Engine struct {
	objs   objects
	links  links // the programs that are not in the target
	probes links // those that are; none in a pause
	target *target.Target
	exe    *os.File // of the target: see openExe
	multi  bool     // uprobes share a link
	reader *ringbuf.Reader
	sites  []probes.Site
	seq    *probes.Sequencer
	rec    ringbuf.Record
	follow *follower // nil when one process is traced
	cost   *costMeter
	stacks *stackReader // nil without stacks

	counters *counters
	stopped  atomic.Bool
}

var _ engine.Engine = (*Engine)(nil)

// Start attaches to t: to its process, or to every process of its binary, now
// and later, when t has none. The target must stay open until Close.
func Start(t *target.Target, opts *Options) (*Engine, error) {
	if opts == nil {
		opts = &Options{}
	}
	if err := t.CheckArch(); err != nil {
		return nil, err
	}
	sites, err := probes.Plan(t.Bin)
	if err != nil {
		return nil, err
	}
	e := &Engine{target: t, multi: !opts.PerfEvents && haveUprobeMulti(), sites: sites, seq: probes.NewSequencer(sites, t.Reasons, t.Bin)}
	if err := e.start(t, opts); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

func (e *Engine) start(t *target.Target, opts *Options) error {
	trap := startTrapMeter(e.multi)
	defer trap.wait() // also after an error: it has a probe on this process
	events, _, err := openPerfEvents(opts.tracepointsBy)
	if err != nil {
		return err
	}
	defer events.Close()
	if err := e.load(t, events, opts); err != nil {
		return err
	}
	if e.reader, err = ringbuf.NewReader(e.objs.Events); err != nil {
		return fmt.Errorf("open ring: %w", err)
	}
	if t.Proc == nil {
		e.follow = newFollower(e.objs.Processes)
	}
	if err := e.links.attachTracepoints(&e.objs, events); err != nil {
		return err
	}
	if e.exe, err = openExe(t); err != nil {
		return err
	}
	// Without a price there is no budget: so it is known before the target takes the first trap.
	trap.wait()
	if err := e.probes.attach(&e.objs, t, e.exe, e.sites, e.multi); err != nil {
		return err
	}
	e.cost = startCostMeter(e.objs.atUprobes(), e.objs.atTracepoints(), trap, e.stackTimer(opts))
	return e.enable(1)
}

// stackTimer measures what a stack costs; nil without stacks.
func (e *Engine) stackTimer(opts *Options) *stackTimer {
	if !opts.Stacks {
		return nil
	}
	return &stackTimer{on: e.objs.StacksTimed, counters: e.counters}
}

// load puts programs and maps into the kernel, with the target's constants; those of tracepoints
// for the events, if there are some.
func (e *Engine) load(t *target.Target, events perfEvents, opts *Options) error {
	spec, err := loadSpec(events)
	if err != nil {
		return err
	}
	if err := setConstants(spec, t, opts.PIDNamespace); err != nil {
		return err
	}
	if opts.Stacks {
		if err := setStacks(spec, e.sites, opts); err != nil {
			return err
		}
	}
	spec.Maps["events"].MaxEntries = ringSize(opts.RingBytes)
	if err := setCounters(spec); err != nil {
		return err
	}
	sleep := maySleep(e.multi)
	if err := spec.Variables["may_sleep"].Set(sleep); err != nil {
		return fmt.Errorf("internal error: set may_sleep: %w", err)
	}
	for _, p := range spec.Programs {
		if p.Type != ebpf.Kprobe {
			continue
		}
		if e.multi {
			p.AttachType = ebpf.AttachTraceUprobeMulti
		}
		if sleep {
			p.Flags |= unix.BPF_F_SLEEPABLE
		}
	}
	if err := spec.LoadAndAssign(&e.objs, nil); err != nil {
		return fmt.Errorf("load programs: %w", explain(err))
	}
	if e.counters, err = mapCounters(e.objs.Counters); err != nil {
		return err
	}
	if opts.Stacks {
		e.stacks = newStackReader(e.objs.ReadStack, t.Bin)
	}
	return nil
}

// loadSpec is the embedded object, ready to be loaded, with the programs of tracepoints that are
// for the events.
func loadSpec(events perfEvents) (*ebpf.CollectionSpec, error) {
	spec, err := loadGtrace()
	if err != nil {
		return nil, fmt.Errorf("internal error: embedded object: %w", err)
	}
	events.choose(spec)
	for _, p := range spec.Programs {
		p.KernelVersion = anyKernel
		if p.Type == ebpf.Kprobe {
			p.Instructions = onOwnStack(p.Instructions)
		}
	}
	return spec, nil
}

// onOwnStack keeps a program's variables on the stack of the thread that it runs on. From 6.13 on
// Linux gives a program with more than a few of them a stack for each CPU (kernel/bpf/verifier.c,
// bpf_enable_priv_stack). But a uprobe's program can be put off its CPU, or sleep, while another
// thread runs it there: each then finds the other's variables, such as its goroutine. A program
// with a tail call in it has no such stack (check_max_stack_depth). So it gets one, which is never
// made, and which the verifier therefore removes.
func onOwnStack(body asm.Instructions) asm.Instructions {
	head := asm.Instructions{
		asm.Mov.Imm(asm.R0, 0),
		{OpCode: asm.JEq.Op(asm.ImmSource), Dst: asm.R0, Offset: 1}, // always: to body
		asm.FnTailCall.Call(),
	}
	// The name and the type of a program are those of its first instruction.
	head[0].Metadata, body[0].Metadata = body[0].Metadata, asm.Metadata{}
	return append(head, body...)
}

// anyKernel is a version for the programs to be made for. No kernel since 5.0
// looks at it; but without one the library finds out the real one through
// /proc/self/mem, which is closed to a process that has file capabilities.
const anyKernel = 1

// ErrOldKernel is a kernel that lacks something that every trace needs.
var ErrOldKernel = errors.New("the kernel is too old")

// explain shortens the error of a load, which names the map or program that happened to
// be the first, to what is missing. An old kernel refuses by various errors: before 5.11
// it is EPERM, as it counts BPF memory against RLIMIT_MEMLOCK. A release number alone
// says nothing, since distributions have what is needed in older kernels, too.
func explain(err error) error {
	if release, old := oldKernel(); old {
		return tooOld(release, err)
	}
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w: needs CAP_BPF and CAP_PERFMON", unix.EPERM)
	}
	return err
}

// tooOld is the error of a load on an old kernel.
func tooOld(release string, err error) error {
	return fmt.Errorf("%w: Linux %s, needs %d.%d or newer (%w)", ErrOldKernel, release, minMajor, minMinor, err)
}

func setConstants(spec *ebpf.CollectionSpec, t *target.Target, ns *process.PIDNamespace) error {
	l := &t.Layout
	layout := gtraceRuntimeLayout{
		G_stack: l.G.StackLo, G_schedSp: l.G.SchedSP, G_schedPc: l.G.SchedPC, G_schedBp: l.G.SchedBP, G_m: l.G.M, G_status: l.G.Status, G_goid: l.G.GoID, G_waitreason: l.G.WaitReason,
		G_parent: l.G.ParentGoID, G_gopc: l.G.GoPC, G_startpc: l.G.StartPC,
		G_coroarg: l.G.CoroArg, G_coroexit: l.G.CoroExit,
		M_curg: l.M.CurG, M_p: l.M.P, M_oldp: l.M.OldP, M_id: l.M.ID,
		M_blocked: l.M.Blocked,
		P_id:      l.P.ID, CoroGp: l.Coro.G,
	}
	scope := gtraceTraceScope{}
	if t.Proc != nil {
		scope.Tgid, scope.Bias = uint32(t.Proc.PID()), t.Bias
	}
	if ns != nil && !ns.Initial {
		scope.PidnsDev, scope.PidnsIno = ns.Dev, ns.Inode
	}
	if err := spec.Variables["layout"].Set(layout); err != nil {
		return fmt.Errorf("internal error: set layout: %w", err)
	}
	if err := spec.Variables["scope"].Set(scope); err != nil {
		return fmt.Errorf("internal error: set scope: %w", err)
	}
	return nil
}

// openExe opens the file that the target executes as a place only (O_PATH), so that the
// probes can be attached again after a pause without the right to look into the
// process, which may have been given up by then.
func openExe(t *target.Target) (*os.File, error) {
	path := t.Bin.Path()
	if t.Proc != nil {
		path = t.Proc.ExePath()
	}
	f, err := os.OpenFile(path, unix.O_PATH, 0)
	if err != nil {
		return nil, fmt.Errorf("open executable: %w", err)
	}
	return f, nil
}

// ringSize rounds up to what the kernel takes: a power of two of whole pages.
func ringSize(n int) uint32 {
	if n <= 0 {
		n = DefaultRingBytes
	}
	size := uint32(os.Getpagesize())
	for int64(size) < int64(n) && size < 1<<30 {
		size <<= 1
	}
	return size
}

// Name implements engine.Engine.
func (e *Engine) Name() string { return "ebpf" }

// Poll implements engine.Engine. The reader waits for a record that is reserved
// and not written yet, and stops where the ring is empty, or else, so that Poll ends
// although more is made than is read, at a record that is younger by more than disorder.
func (e *Engine) Poll(wait time.Duration, emit func(*event.Event) error) error {
	now, err := clock.Mono()
	if err != nil {
		return err
	}
	e.reader.SetDeadline(time.Now().Add(wait))
	limit := uint64(now) + uint64(wait) + disorder
	for late := false; !late; {
		err := e.reader.ReadInto(&e.rec)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			return fmt.Errorf("read ring: %w", err)
		}
		var r record
		if !r.decode(e.rec.RawSample) {
			return fmt.Errorf("internal error: a record of %d bytes", len(e.rec.RawSample))
		}
		if e.follow != nil {
			e.follow.saw(r.tgid)
		}
		late = r.time > limit && !e.stopped.Load()
		g := r.general(e.sites)
		if r.stack != 0 && e.stacks != nil {
			g.Stack = e.stacks.id(r.stack)
		}
		if ev := e.seq.Event(&g); ev != nil {
			if err := emit(ev); err != nil {
				return err
			}
		}
	}
	if e.follow != nil {
		return e.follow.reap(func(tgid uint32) error {
			e.seq.Forget(tgid)
			now, err := clock.Mono()
			if err != nil {
				return err
			}
			return emit(&event.Event{Kind: event.Exit, Time: now, PID: tgid})
		})
	}
	return nil
}

// Follow implements engine.Engine. An error says that there are too many
// processes.
func (e *Engine) Follow(pid int) error {
	if e.follow == nil {
		return nil
	}
	if err := e.objs.Processes.Update(uint32(pid), uint64(biasUnknown), ebpf.UpdateNoExist); err != nil && !errors.Is(err, ebpf.ErrKeyExist) {
		return fmt.Errorf("follow process %d: %w", pid, err)
	}
	e.follow.saw(uint32(pid))
	return nil
}

// Seed implements engine.Engine.
func (e *Engine) Seed(ev *event.Event) { e.seq.Seed(ev) }

// Stack implements engine.Engine.
func (e *Engine) Stack(id uint32) []event.Location { return e.stacks.frames(id) }

// disorder is how much older than one before it a record in the ring can be, in ns: a
// program has its place there first and then looks at the clock, and can be put off its CPU
// in between.
const disorder = 50e6

// Stop implements engine.Engine.
func (e *Engine) Stop() error {
	e.stopped.Store(true)
	return e.enable(0)
}

// TakeStacks implements engine.Engine.
func (e *Engine) TakeStacks(take bool) error {
	if e.stacks == nil {
		return nil
	}
	off := uint8(1)
	if take {
		off = 0
	}
	if err := e.objs.StacksOff.Set(off); err != nil {
		return fmt.Errorf("set stacks_off: %w", err)
	}
	return nil
}

// Pause implements engine.Engine: as long as there is a uprobe in its code, the target
// traps. The programs that are not in the target stay.
func (e *Engine) Pause() error { return errors.Join(e.enable(0), e.probes.Close()) }

// Resume implements engine.Engine.
func (e *Engine) Resume() error {
	if err := e.probes.attach(&e.objs, e.target, e.exe, e.sites, e.multi); err != nil {
		return err
	}
	e.seq.ForgetAll()
	return e.enable(1)
}

func (e *Engine) enable(v uint32) error {
	if err := e.objs.Enabled.Set(v); err != nil {
		return fmt.Errorf("set enabled: %w", err)
	}
	return nil
}

// Stats implements engine.Engine.
func (e *Engine) Stats() (engine.Stats, error) {
	var s engine.Stats
	list := []struct {
		key gtraceCounter
		to  *uint64
	}{
		{gtraceCounterCOUNT_EVENTS, &s.Events},
		{gtraceCounterCOUNT_UPROBE, &s.Hits.Uprobes},
		{gtraceCounterCOUNT_SYSCALL, &s.Hits.Syscalls},
		{gtraceCounterLOST_RING_FULL, &s.Lost.RingFull},
		{gtraceCounterLOST_READ_FAULT, &s.Lost.ReadFault},
		{gtraceCounterLOST_PROCESSES, &s.Lost.Processes},
		{gtraceCounterNO_STACK_ROOM, &s.NoStack.Full},
		{gtraceCounterNO_STACK_READ, &s.NoStack.Unread},
		{gtraceCounterNO_STACK_BUDGET, &s.NoStack.Budget},
		{gtraceCounterCOUNT_STACK, &s.Hits.Stacks},
	}
	for _, c := range list {
		n, err := e.counters.sum(c.key)
		if err != nil {
			return s, err
		}
		*c.to = n
	}
	if e.stacks != nil {
		s.NoStack.Full += e.stacks.table.Full()
		s.NoStack.Unread += e.stacks.lost.Load()
	}
	for _, p := range append(e.objs.atUprobes(), e.objs.atTracepoints()...) {
		if st, err := p.Stats(); err == nil {
			s.Lost.Recursion += st.RecursionMisses
		}
	}
	return s, nil
}

// Cost implements engine.Engine.
func (e *Engine) Cost() (engine.Cost, error) {
	p, err := e.cost.measured()
	if err != nil {
		return engine.Cost{}, err
	}
	stats, err := e.Stats()
	if err != nil {
		return engine.Cost{}, err
	}
	return engine.NewCost(stats.Hits, p.uprobe, p.syscall, p.stack), nil
}

// Close implements engine.Engine.
func (e *Engine) Close() error {
	errs := []error{e.probes.Close(), e.links.Close()}
	if e.exe != nil {
		errs = append(errs, e.exe.Close())
	}
	if e.cost != nil {
		e.cost.Close()
	}
	if e.reader != nil {
		errs = append(errs, e.reader.Close())
	}
	if e.follow != nil {
		errs = append(errs, e.follow.Close())
	}
	if e.objs.Events != nil {
		errs = append(errs, e.objs.Close())
	}
	return errors.Join(errs...)
}
