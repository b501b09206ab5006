package probes

import (
	"errors"
	"fmt"
	"strings"

	"gopherscope/internal/event"
	"gopherscope/internal/gobinary"
	"gopherscope/internal/goruntime"
)

// Program names one of the things that a probe does at a site. What it reads is
// the same for every engine; bpf/gtrace.bpf.c and asm/probe_amd64.S of the engines say
// how.
type Program uint8

// The programs.
const (
	OnCas    Program = iota // a call of casgstatus: goroutine, old and new status are its arguments
	OnBirth                 // a goroutine has been made and nobody else can see it
	OnSelf                  // a call before one known change, the Site's, of one goroutine
	OnSwitch                // coroswitch_m: one goroutine leaves, another comes
	Programs                // how many there are
)

// Flags say what a program must know of its site.
type Flags uint8

// The flags; the same bits as SITE_… in the engines' programs.
const (
	Waker   Flags = 1 // the thread's current goroutine is the waker
	Attempt Flags = 2 // the change may not take place
	GInArg1 Flags = 4 // OnBirth: the new goroutine is the second argument, not the first
	GInArg0 Flags = 8 // OnSelf: the goroutine is the first argument, not the current g
)

// NoSite is the site index of a record that comes from no site.
const NoSite = 255

// Site is one instruction of the target at which a program runs, and what is
// known of the changes that it reports.
type Site struct {
	Func     string // the runtime function that the instruction is in
	PC       uint64 // its address as linked
	Callee   string // the function that it calls; "" where it is no call
	Prog     Program
	From, To goruntime.Status // what OnSelf reports
	Body     bool             // in the body of Func, after the prologue
	Repeats  bool             // its changes can be reported by another site, too
	rule
}

// KindAt is what a record of the site says, of a change between two statuses. The
// change of a dead g is a birth; before Go 1.24 that is OnBirth's (newproc1).
func (s *Site) KindAt(from, to goruntime.Status) Kind {
	switch {
	case (s.Prog == OnCas || s.Prog == OnBirth) && from == goruntime.Dead && to == goruntime.Runnable:
		return Birth
	case (s.Prog == OnCas || s.Prog == OnBirth) && from == goruntime.Dead && to == goruntime.Waiting:
		return BirthParked
	case s.Repeats:
		return Syscall
	case s.Flags&Attempt != 0:
		return Attempted
	}
	return Change
}

// Parks says whether goroutines park there: the place at which their stacks can be
// walked from outside.
func (s *Site) Parks() bool { return s.via == event.ViaPark }

// BorrowsM says whether a C thread that borrows an M, or gives it back, comes by.
func (s *Site) BorrowsM() bool { return s.via == event.ViaExtraM }

// rule says how the changes made in one runtime function are traced.
type rule struct {
	Flags  Flags
	via    event.Via
	skip   bool   // not traced here; planner says where instead, or why not
	reason string // the wait reason, where g.waitreason is not set yet
	// lostP marks the change from syscall to runnable of a goroutine whose P was
	// taken. The end of the system call has been reported before it, so the
	// change that remains is from running to runnable: what Go 1.26+ does.
	lostP bool
}

// rules maps a runtime function, its closures included, to how its calls of
// casgstatus are traced. A function that is not here is traced as
// event.ViaOther. Source: runtime/proc.go, mgc.go, mgcmark.go, mgcpacer.go,
// stack.go, coro.go, debugcall.go, heapdump.go, trace.go of Go 1.18 to 1.27.
var rules = map[string]rule{
	"newproc1":             {via: event.ViaCreate},
	"execute":              {via: event.ViaSchedule},
	"park_m":               {via: event.ViaPark},
	"ready":                {via: event.ViaReady, Flags: Waker},
	"findRunnable":         {via: event.ViaNetpoll, Flags: Waker},
	"findrunnable":         {via: event.ViaNetpoll, Flags: Waker}, // Go 1.18
	"schedule":             {via: event.ViaNetpoll, Flags: Waker}, // Go 1.18
	"injectglist":          {via: event.ViaNetpoll, Flags: Waker},
	"findRunnableGCWorker": {via: event.ViaGC, Flags: Waker},
	"goyield_m":            {via: event.ViaYield},
	"gdestroy":             {via: event.ViaExit},
	"goexit0":              {via: event.ViaExit}, // up to Go 1.21
	"entersyscallblock":    {via: event.ViaSyscall},
	"exitsyscall0":         {via: event.ViaNoP, lostP: true}, // up to Go 1.25
	"exitsyscallNoP":       {via: event.ViaNoP},
	"needm":                {via: event.ViaExtraM},
	"dropm":                {via: event.ViaExtraM},
	"newcoro":              {via: event.ViaCoroutine, reason: "coroutine"}, // Go 1.22
	"findGoroutineLeaks":   {via: event.ViaGC},

	"stopTheWorld":         {via: event.ViaSTW}, // up to Go 1.22
	"stopTheWorldWithSema": {via: event.ViaSTW},
	"forEachP":             {via: event.ViaSTW},
	"traceAdvance":         {via: event.ViaSTW},
	"writeheapdump_m":      {via: event.ViaSTW},
	"debugCallWrap":        {via: event.ViaOther},
	"gcMarkDone":           {via: event.ViaGC},
	"gcMarkTermination":    {via: event.ViaGC},
	"gcBgMarkWorker":       {via: event.ViaGC},
	"markroot":             {via: event.ViaGC},
	"gcAssistAlloc1":       {via: event.ViaGC},
	"casGToWaiting":        {via: event.ViaSTW}, // where it is not inlined

	// The system call paths: traced at the system call itself and at the calls
	// of cgo and of note sleeps, see planner.selfSites.
	"reentersyscall": {skip: true},
	"exitsyscall":    {skip: true},
	// Traced as a whole, by OnSwitch.
	"coroswitch_m": {skip: true},
	// Running to copystack and back: the goroutine stays where it is, its stack
	// moves. No change of scheduling state, and stack growth is frequent.
	"newstack": {skip: true},
	// Traced at its callers, which say whether it is a yield: planner.schedSites.
	"goschedImpl": {skip: true},
	// Allocates the unused g of an extra M.
	"oneNewExtraM": {skip: true},
}

// oldFakeReasons are the reasons of fake waits in Go 1.18 and 1.19, by
// function: there, g.waitreason is set after casgstatus or not at all.
var oldFakeReasons = map[string]string{
	"stopTheWorld":      "stopping the world",
	"writeheapdump_m":   "dumping heap",
	"debugCallWrap":     "debug call",
	"gcMarkDone":        "garbage collection",
	"gcMarkTermination": "garbage collection",
	"gcBgMarkWorker":    "GC worker (active)",
	"markroot":          "garbage collection scan",
	"gcAssistAlloc1":    "GC assist marking",
}

// goidFirst is the Go minor from which newproc1 sets g.goid before it makes
// the goroutine runnable (runtime/proc.go newproc1).
const goidFirst = 24

// Plan lists all sites of a binary. The index of a site is the number by which
// its records name it.
func Plan(bin *gobinary.File) ([]Site, error) {
	p := planner{bin: bin, minor: bin.Version().Minor}
	steps := []func() error{p.casSites, p.birthSites, p.suspendSites, p.schedSites, p.selfSites, p.switchSites}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, err
		}
	}
	if len(p.sites) >= NoSite {
		return nil, fmt.Errorf("%d probe sites, at most %d can be told apart", len(p.sites), NoSite-1)
	}
	return p.sites, p.checkComplete()
}

type planner struct {
	bin   *gobinary.File
	minor int
	sites []Site
}

// calls are the direct calls of a runtime function, each of which the kernel
// emulates.
func (p *planner) calls(callee string) ([]gobinary.Site, error) {
	sites, err := p.bin.CallSites(callee, nil)
	if err != nil {
		return nil, err
	}
	for _, s := range sites {
		if !p.bin.CallIsEmulated(s) {
			return nil, fmt.Errorf("call of %s in %s is not a plain call: this runtime is not understood", callee, s.Caller)
		}
	}
	return sites, nil
}

// casSites adds the calls of casgstatus.
func (p *planner) casSites() error {
	calls, err := p.calls("runtime.casgstatus")
	if err != nil {
		return err
	}
	// A call from assembly code would go past every site.
	wrapped, err := p.bin.ABI0CallSites("runtime.casgstatus", nil)
	if err != nil {
		return err
	}
	if len(wrapped) > 0 {
		return fmt.Errorf("%s calls casgstatus by its wrapper: this runtime is not understood", wrapped[0].Caller)
	}
	for _, c := range calls {
		base := baseName(c.Caller)
		if strings.HasPrefix(base, "casGToWaiting") {
			base = "casGToWaiting" // also …ForGC and …ForSuspendG
		}
		r := rules[base]
		if r.skip || base == "newproc1" && p.minor < goidFirst {
			continue
		}
		if p.minor < 20 && oldFakeReasons[base] != "" {
			r.reason = oldFakeReasons[base]
		}
		p.sites = append(p.sites, Site{Func: c.Caller, PC: c.PC, Callee: "runtime.casgstatus", Prog: OnCas, rule: r})
	}
	return nil
}

// birthSites adds, up to Go 1.23, a place after each call of newproc1: in
// newproc the call of runqput that publishes the goroutine (an instruction that
// the kernel emulates), elsewhere the instruction to which newproc1 returns.
func (p *planner) birthSites() error {
	if p.minor >= goidFirst {
		return nil
	}
	calls, err := p.calls("runtime.newproc1")
	if err != nil {
		return err
	}
	for _, c := range calls {
		s := Site{Func: c.Caller, PC: p.bin.AfterCall(c), Prog: OnBirth, rule: rule{via: event.ViaCreate}}
		if put, ok := p.bin.NextCallIn(c.Caller, c.PC, "runtime.runqput"); ok {
			s.PC, s.Callee, s.Flags = put.PC, "runtime.runqput", GInArg1
		}
		p.sites = append(p.sites, s)
	}
	return nil
}

// suspendSites adds the two bypasses by which a goroutine is stopped for a
// stack scan: running to preempted, preempted to waiting.
func (p *planner) suspendSites() error {
	r := rule{via: event.ViaSuspend, reason: "preempted"}
	for callee, flags := range map[string]Flags{
		"runtime.casGToPreemptScan": 0,
		"runtime.casGFromPreempted": Attempt,
	} {
		calls, err := p.calls(callee)
		if err != nil {
			return err
		}
		r.Flags = flags
		for _, c := range calls {
			p.sites = append(p.sites, Site{Func: c.Caller, PC: c.PC, Callee: callee, Prog: OnCas, rule: r})
		}
	}
	return nil
}

// schedSites adds the calls of goschedImpl, by which a goroutine gives up its P:
// of its own will in gosched_m and goschedguarded_m, otherwise preempted, in
// gopreempt_m or where that is inlined. Nothing tells the two apart later on.
func (p *planner) schedSites() error {
	calls, err := p.calls("runtime.goschedImpl")
	if err != nil {
		return err
	}
	for _, c := range calls {
		via := event.ViaPreempt
		if base := baseName(c.Caller); base == "gosched_m" || base == "goschedguarded_m" {
			via = event.ViaYield
		}
		p.sites = append(p.sites, Site{Func: c.Caller, PC: c.PC, Callee: "runtime.goschedImpl", Prog: OnSelf, From: goruntime.Running, To: goruntime.Runnable,
			rule: rule{via: via, Flags: GInArg0}})
	}
	return nil
}

// selfSites adds the calls inside the runtime of the functions that enter and
// leave _Gsyscall: cgo calls and callbacks make no system call, and the futex
// calls of a note sleep are not the calls that a user would see.
func (p *planner) selfSites() error {
	for _, e := range []struct {
		callee   string
		from, to goruntime.Status
	}{
		{"runtime.entersyscall", goruntime.Running, goruntime.Syscall},
		{"runtime.reentersyscall", goruntime.Running, goruntime.Syscall},
		{"runtime.exitsyscall", goruntime.Syscall, goruntime.Running},
	} {
		calls, err := p.calls(e.callee)
		if errors.Is(err, gobinary.ErrNoSymbol) && e.callee == "runtime.entersyscall" {
			continue // a program that makes no system call through package syscall
		}
		if err != nil {
			return err
		}
		for _, c := range calls {
			if c.Caller == "runtime.entersyscall" {
				continue // entersyscall's own call of reentersyscall
			}
			via := event.ViaSyscall
			if strings.HasPrefix(c.Caller, "runtime.cgocall") {
				via = event.ViaCgo
			}
			p.sites = append(p.sites, Site{Func: c.Caller, PC: c.PC, Callee: e.callee, Prog: OnSelf, From: e.from, To: e.to, rule: rule{via: via}})
		}
	}
	return nil
}

// SyscallSites are the sites that see system calls, for an engine that sees none
// otherwise; they are to follow those of Plan. Every system call that package
// syscall makes goes through entersyscall, which calls reentersyscall, and
// exitsyscall. The latter makes the change itself, at the end of a path that calls
// nothing, so its body is the site. Both also see the calls of which Plan has
// the callers, after them; such a record repeats what is known.
func SyscallSites(bin *gobinary.File) ([]Site, error) {
	const enter, leave = "runtime.entersyscall", "runtime.exitsyscall"
	p := planner{bin: bin}
	var sites []Site
	if _, ok := bin.Func(enter); ok {
		calls, err := p.calls("runtime.reentersyscall")
		if err != nil {
			return nil, err
		}
		for _, c := range calls {
			if c.Caller == enter {
				sites = append(sites, Site{Func: c.Caller, PC: c.PC, Callee: "runtime.reentersyscall", Prog: OnSelf,
					From: goruntime.Running, To: goruntime.Syscall, Repeats: true, rule: rule{via: event.ViaSyscall}})
			}
		}
		if len(sites) != 1 {
			return nil, fmt.Errorf("%d calls of reentersyscall in entersyscall: this runtime is not understood", len(sites))
		}
	}
	w, err := bin.BodyWindow(leave)
	if err != nil {
		return nil, err
	}
	return append(sites, Site{Func: leave, PC: w.PC, Prog: OnSelf, Body: true,
		From: goruntime.Syscall, To: goruntime.Running, Repeats: true, rule: rule{via: event.ViaSyscall}}), nil
}

// switchSites adds coroswitch_m, when the program has coroutines.
func (p *planner) switchSites() error {
	const fn = "runtime.coroswitch_m"
	if _, ok := p.bin.Func(fn); !ok {
		return nil
	}
	point, err := p.bin.ProbePoint(fn)
	if err != nil {
		return err
	}
	p.sites = append(p.sites, Site{Func: fn, PC: point.PC, Prog: OnSwitch, Body: true, rule: rule{via: event.ViaCoroutine, reason: "coroutine"}})
	return nil
}

// checkComplete refuses a plan that lacks a path which every Go program has: a
// binary in which calls of casgstatus were not found where they must be is one
// that is not understood.
func (p *planner) checkComplete() error {
	have := map[event.Via]bool{}
	for _, s := range p.sites {
		have[s.via] = true
	}
	for _, via := range []event.Via{event.ViaCreate, event.ViaSchedule, event.ViaPark, event.ViaReady, event.ViaYield, event.ViaPreempt, event.ViaExit, event.ViaNoP, event.ViaSuspend} {
		if !have[via] {
			return fmt.Errorf("no probe site for %q in this binary: its runtime is not understood", via)
		}
	}
	return nil
}

// baseName is the name of a runtime function without package, receiver and the
// suffixes of closures: "runtime.stopTheWorld.func1" is "stopTheWorld".
func baseName(fn string) string {
	s := strings.TrimPrefix(fn, "runtime.")
	if strings.HasPrefix(s, "(") {
		if _, method, ok := strings.Cut(s, ")."); ok {
			s = method
		}
	}
	s, _, _ = strings.Cut(s, ".")
	return s
}
