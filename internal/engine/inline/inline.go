// Package inline traces one process without the kernel: it changes the calls of a
// few runtime functions in the process's memory so that they pass through code of
// ours, which writes a record to a ring in shared memory and goes on. There is no trap,
// no lock and no system call; a change costs the process some 10 ns, a hundredth of a
// uprobe's. The events are those of package ebpf.
//
// asm/probe_amd64.S is the code and says why it may run where it does; code.go lays it
// out, attach.go puts it in and detach.go takes it out; ring.go and merge.go are the
// reader's side. docs/design/inline.md tells the whole story.
package inline

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"time"

	"gopherscope/internal/clock"
	"gopherscope/internal/engine"
	"gopherscope/internal/engine/probes"
	"gopherscope/internal/event"
	"gopherscope/internal/process"
	"gopherscope/internal/target"
	"gopherscope/internal/tsc"
)

// By default the rings of as many threads as can run at once (GOMAXPROCS) are so many bytes
// together: room for two million records, some 80 ms of all that a reader can take, however
// many threads make them. Only threads that make many changes come to use all of their ring.
const roomOfRunning = 64 << 20

// leastRing and mostRing bound the size of a ring by default.
const leastRing, mostRing = 2 << 20, 16 << 20

// Options are the choices that a trace has; nil means the defaults.
type Options struct {
	// RingBytes is the size of each thread's ring; rounded up to a power of two of at least
	// one page. 0 means 2 to 16 MiB, by how many threads can run at once.
	RingBytes int

	// Stacks has the stack of each goroutine that parks or begins a system call or a cgo
	// call, and of the parent at each birth, up to 32 frames deep: see Engine.Stack.
	Stacks bool

	// OnTracer runs a function on the thread that traces the process already, when it was
	// launched and has not run yet; nil otherwise.
	OnTracer func(func(tid int) error) error
}

// Errors that callers tell apart with errors.Is.
var (
	// ErrUnfit is a host, binary or process that this engine does not work for.
	ErrUnfit = errors.New("the inline engine does not work here")
	// ErrOwned is a process in which another gopherscope is at work.
	ErrOwned = errors.New("another gopherscope traces the process with the inline engine")
)

// Engine is a running trace. It implements engine.Engine, but for Stats and Stop, which may
// not be called beside Poll.
type Engine struct {
	in      *injection
	rings   *rings
	clock   *tsc.Clock
	seq     *probes.Sequencer
	sites   []probes.Site
	reads   []reading // by site
	names   threadNames
	stacks  *stacks // nil without stacks
	prices  prices
	stopped bool
	drained time.Time                // when the rings were last drained
	limit   uint64                   // the counter then
	period  time.Duration            // between two drains
	emit    func(*event.Event) error // of the Poll that is going on
	taker   *taker
	checked time.Time // when the process was last looked at
	tended  time.Time // when its code and threads were last looked at
	missing bool      // the process's memory was gone when it was last looked at
	execed  bool
	pause   time.Duration // see StopTime
	threads int
	rec     probes.Record
}

var _ engine.Engine = (*Engine)(nil)

// Start attaches to t's process. A gopherscope that was killed in the middle of a
// trace may have left its code there: it is removed first. The target must stay open
// until Close.
func Start(t *target.Target, opts *Options) (*Engine, error) {
	if opts == nil {
		opts = &Options{}
	}
	if t.Proc == nil {
		return nil, fmt.Errorf("%w: it traces one process, by its PID or from its start", ErrUnfit)
	}
	if err := t.CheckArch(); err != nil {
		return nil, err
	}
	if err := refuse(CheckHost()); err != nil {
		return nil, err
	}
	if opts.OnTracer == nil {
		if _, err := Clean(t); err != nil {
			return nil, err
		}
		if err := refuse(CheckProcess(t)); err != nil {
			return nil, err
		}
	}
	sites, err := plan(t)
	if err != nil {
		return nil, err
	}
	e := &Engine{sites: sites, reads: readingsOf(sites, opts.Stacks), period: minPeriod, drained: time.Now(), seq: probes.NewSequencer(sites, t.Reasons, t.Bin)}
	if opts.Stacks {
		e.stacks = newStacks(t)
	}
	if err := e.start(t, opts); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// plan is all sites of a target.
func plan(t *target.Target) ([]probes.Site, error) {
	sites, err := probes.Plan(t.Bin)
	if err != nil {
		return nil, err
	}
	more, err := probes.SyscallSites(t.Bin)
	if err != nil {
		return nil, err
	}
	if sites = append(sites, more...); len(sites) >= probes.NoSite {
		return nil, fmt.Errorf("%d probe sites, at most %d can be told apart", len(sites), probes.NoSite-1)
	}
	return sites, nil
}

func (e *Engine) start(t *target.Target, opts *Options) error {
	var err error
	if e.names, err = newThreadNames(t.Proc); err != nil {
		return err
	}
	if e.prices, err = calibrate(); err != nil {
		return err
	}
	if e.clock, err = tsc.NewClock(); err != nil {
		return err
	}
	threads, err := t.Proc.Threads()
	if err != nil {
		return err
	}
	sh := shape{rings: ringCount(len(threads)), ringBytes: ringBytes(opts.RingBytes, t.Procs()), stacks: opts.Stacks}
	in, err := prepare(t, e.sites, sh)
	if err != nil {
		return err
	}
	in.tracer = opts.OnTracer
	e.in = in
	if err := in.place(sh); err != nil {
		return err
	}
	if e.rings, err = newRings(in.shared, in.what.Rings, sh.rings, sh.ringBytes, follow(e.sites, e.reads)); err != nil {
		return err
	}
	e.rings.single = singles(e.reads)
	if err := in.hookIn(); err != nil {
		return err
	}
	if err := in.enable(in.what.Rings + pageSize); err != nil {
		return err
	}
	e.taker = startTaker(e.rings, in.fd)
	e.pause, e.threads = in.pause, in.stopped
	return nil
}

// ringCount is how many rings a process with so many threads gets. Only those in use
// take memory.
func ringCount(threads int) int {
	n := minRings
	for n < maxRings && n < 4*threads {
		n *= 2
	}
	return n
}

// ringBytes is a size that a ring can have: n, rounded up, or the default for so many Ps. A
// program that has just been launched has none yet, and makes one for each CPU.
func ringBytes(n, procs int) int {
	if procs <= 0 {
		procs = runtime.NumCPU()
	}
	if n <= 0 {
		n = max(leastRing, min(roomOfRunning/procs, mostRing))
	}
	size := pageSize
	for size < n && size < 1<<30 {
		size *= 2
	}
	return size
}

// Name implements engine.Engine.
func (e *Engine) Name() string { return "inline" }

// Follow implements engine.Engine. The process is the one that is traced.
func (e *Engine) Follow(int) error { return nil }

// Seed implements engine.Engine.
func (e *Engine) Seed(ev *event.Event) { e.seq.Seed(ev) }

const (
	checkEvery = 100 * time.Millisecond
	tendEvery  = time.Second
)

const (
	// A drain comes when the fullest ring can be expected to be as full as enough, but
	// neither sooner nor later after the one before than these: a wake-up costs a CPU
	// some ten microseconds.
	enough    = 0.04
	minPeriod = 500 * time.Microsecond
	maxPeriod = 10 * time.Millisecond
)

// Poll implements engine.Engine.
func (e *Engine) Poll(wait time.Duration, emit func(*event.Event) error) error {
	e.emit = emit
	for end := time.Now().Add(wait); ; {
		left := time.Until(end)
		if left > 0 && !e.stopped {
			nap(min(left, e.period))
		}
		if err := e.drain(); err != nil || e.stopped || left <= e.period {
			return err
		}
	}
}

// drain passes on what was made before now.
func (e *Engine) drain() error {
	// What was stamped before the counter began anew has its time by the clock as it was.
	if at := tsc.Now(); restarted(e.limit, at) {
		if err := e.rings.restart(e.limit, at, e.record); err != nil {
			return err
		}
	}
	// After ErrJump the clock is right again, and the order never depended on it.
	if err := e.clock.Refresh(); err != nil && !errors.Is(err, tsc.ErrJump) {
		return err
	}
	now := time.Now()
	fill := e.rings.fullest()
	e.pace(now.Sub(e.drained), fill)
	if e.drained = now; fill > crowded/2 {
		e.taker.call()
	}
	e.rings.touchAhead(e.in.fd)
	e.limit = tsc.Now()
	limit := e.limit
	if e.stopped {
		limit = everything
	}
	if err := e.rings.drain(limit, e.record); err != nil || e.stopped {
		return err
	}
	return e.look()
}

// pace sets the time to the next drain by how much has come since the last one.
func (e *Engine) pace(since time.Duration, fill float64) {
	next := maxPeriod
	if fill > 0 {
		next = time.Duration(min(float64(maxPeriod), float64(since)*enough/fill))
	}
	e.period = max(minPeriod, min(next, 2*e.period))
}

// look sees to the process: whether it still is the one that we traced, and whether
// threads have gone.
func (e *Engine) look() error {
	now := time.Now()
	if now.Sub(e.checked) < checkEvery {
		return nil
	}
	e.checked = now
	if err := e.lookForExec(); err != nil {
		return err
	}
	if e.execed || now.Sub(e.tended) < tendEvery {
		return nil
	}
	e.tended = now
	if err := e.in.verifyHooks(); err != nil && !gone(e.in.proc) {
		return err
	}
	if e.rings.inUse() > len(e.rings.list)/2 {
		if alive, err := e.names.alive(); err == nil {
			e.rings.reap(now.UnixNano(), alive, e.in.fd)
		}
	}
	return nil
}

// lookForExec tells when the process executes another program. Its memory is gone then;
// but so it is for a moment when it ends, so it must be gone twice. By then all that it
// wrote has been passed on.
func (e *Engine) lookForExec() error {
	if e.execed {
		return nil
	}
	missing := errors.Is(e.in.proc.Check(), process.ErrExec)
	twice := missing && e.missing
	if e.missing = missing; !twice || e.in.proc.Exited() {
		return nil
	}
	e.execed = true
	at, err := clock.Mono()
	if err != nil {
		return err
	}
	e.seq.Forget(e.names.pid)
	return e.emit(&event.Event{Kind: event.Exec, Time: at, PID: e.names.pid, TID: e.names.pid})
}

// Stop implements engine.Engine.
func (e *Engine) Stop() error {
	if e.stopped {
		return nil
	}
	e.stopped = true
	e.taker.stop()
	if err := e.in.enable(0); err != nil && !gone(e.in.proc) {
		return err
	}
	return nil
}

// Pause implements engine.Engine: the code stays, and does nothing.
func (e *Engine) Pause() error { return e.in.enable(0) }

// TakeStacks implements engine.Engine.
func (e *Engine) TakeStacks(take bool) error {
	if e.stacks == nil {
		return nil
	}
	if err := e.in.spare(!take); err != nil && !gone(e.in.proc) {
		return err
	}
	return nil
}

// Resume implements engine.Engine.
func (e *Engine) Resume() error {
	e.seq.ForgetAll()
	return e.in.enable(e.in.what.Rings + pageSize)
}

// Stats implements engine.Engine.
func (e *Engine) Stats() (engine.Stats, error) {
	var s engine.Stats
	if e.rings == nil {
		return s, nil
	}
	s.Events = e.rings.events
	s.Lost.RingFull, s.Lost.NoRing, s.Lost.Corrupt = e.rings.lostCounts()
	s.Hits.Inline = s.Events + s.Lost.RingFull + s.Lost.NoRing
	if e.stacks != nil {
		s.NoStack.Full, s.NoStack.Unread, s.NoStack.Budget = e.stacks.table.Full(), e.stacks.unread, e.stacks.spared
		s.Hits.Stacks = e.stacks.taken
	}
	return s, nil
}

// Cost implements engine.Engine.
func (e *Engine) Cost() (engine.Cost, error) {
	s, err := e.Stats()
	if err != nil {
		return engine.Cost{}, err
	}
	ns := float64(s.Hits.Inline) * e.prices.hit
	c := engine.Cost{Hits: s.Hits, NsPerInline: e.prices.hit}
	if n := float64(s.Hits.Stacks); n > 0 {
		c.NsPerStack = e.prices.stack + e.prices.frame*float64(e.stacks.frames)/n
		ns += n * c.NsPerStack
	}
	c.Total = time.Duration(math.Round(ns))
	return c, nil
}

// Stack implements engine.Engine.
func (e *Engine) Stack(id uint32) []event.Location {
	if e.stacks == nil {
		return nil
	}
	return e.stacks.table.Frames(id)
}

// StopTime is how long all threads of the process were stopped by the last attach or
// detach, and how many threads.
func (e *Engine) StopTime() (d time.Duration, threads int) { return e.pause, e.threads }

// Close implements engine.Engine.
func (e *Engine) Close() error {
	if e.in == nil {
		return nil
	}
	var errs []error
	if e.in.what != nil {
		errs = append(errs, e.Stop(), e.in.remove())
	}
	e.pause, e.threads = e.in.pause, e.in.stopped
	errs = append(errs, e.in.release())
	e.in = nil
	return errors.Join(errs...)
}
