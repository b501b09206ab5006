package inline

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"gopherscope/internal/engine"
	"gopherscope/internal/gobinary"
	"gopherscope/internal/process"
	"gopherscope/internal/ptrace"
	"gopherscope/internal/target"
	"gopherscope/internal/tsc"
)

// The way out of a failed check is always the other engine.
const useEBPF = "use --engine ebpf"

// The oldest kernel with all that is used: pidfd_getfd(2).
const minMajor, minMinor = 5, 6

// CheckHost looks for what the engine needs of this host.
func CheckHost() []engine.Check {
	return []engine.Check{checkArch(), checkKernel(), checkTSC()}
}

func check(name string) engine.Check {
	return engine.Check{Name: "inline: " + name, Status: engine.CheckOK}
}

func failed(c engine.Check, hint, format string, args ...any) engine.Check {
	c.Status, c.Detail, c.Hint = engine.CheckFail, fmt.Sprintf(format, args...), hint
	return c
}

func checkArch() engine.Check {
	c := check("architecture")
	if runtime.GOARCH != "amd64" {
		return failed(c, useEBPF, "not for %s yet", runtime.GOARCH)
	}
	c.Detail = runtime.GOARCH
	return c
}

func checkKernel() engine.Check {
	c := check("kernel")
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return failed(c, "", "%v", err)
	}
	c.Detail = "Linux " + unix.ByteSliceToString(u.Release[:])
	var major, minor int
	if n, _ := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor); n == 2 && (major < minMajor || major == minMajor && minor < minMinor) {
		return failed(c, useEBPF, "%s, needs Linux %d.%d or newer", c.Detail, minMajor, minMinor)
	}
	return c
}

func checkTSC() engine.Check {
	c := check("time stamps")
	q, err := tsc.Check()
	if err != nil {
		return failed(c, useEBPF, "%v", err)
	}
	c.Detail = fmt.Sprintf("invariant counter of %.0f MHz, %d CPUs within %v", q.Hz/1e6, q.CPUs, q.Skew.Round(100*time.Nanosecond))
	if p, err := calibrate(); err == nil {
		c.Detail += fmt.Sprintf("; a hit costs a traced program some %.0f ns here, with a stack of 8 frames %.0f ns", p.hit, p.hit+p.stack+8*p.frame)
	}
	return c
}

// CheckProcess looks for what the engine needs of a process, without touching it.
func CheckProcess(t *target.Target) []engine.Check {
	checks := []engine.Check{checkTracer(t.Proc), checkMainThread(t.Proc), checkSeccomp(t.Proc), checkShadowStack(t.Proc)}
	left, ours := checkLeftover(t)
	if checks = append(checks, left); ours {
		return checks // its code is ours: what follows is not as it would be
	}
	return append(checks, checkCode(t)...)
}

func checkTracer(p *process.Process) engine.Check {
	c := check("tracer")
	tracer, err := p.Status("TracerPid")
	switch {
	case err != nil:
		return failed(c, "", "%v", err)
	case tracer != "0":
		return failed(c, "end that trace, or "+useEBPF, "process %s traces it", tracer)
	}
	c.Detail = "none"
	return c
}

// checkMainThread looks at the thread that makes the system calls.
func checkMainThread(p *process.Process) engine.Check {
	c := check("main thread")
	state, err := p.Status("State")
	if err != nil {
		return failed(c, "", "%v", err)
	}
	if state[:1] == "Z" || state[:1] == "X" {
		return failed(c, useEBPF, "it has ended, and system calls are made on it")
	}
	c.Detail = state
	return c
}

func checkSeccomp(p *process.Process) engine.Check {
	c := check("seccomp")
	mode, err := p.Status("Seccomp")
	if err != nil {
		return failed(c, "", "%v", err)
	}
	c.Detail = "no filter"
	if mode != "0" {
		c.Detail = "it has a filter, which is suspended while memory is mapped"
		if !mayAdmin() {
			return failed(c, "run as root, or "+useEBPF, "it has a filter, and only CAP_SYS_ADMIN may suspend it")
		}
	}
	return c
}

// mayAdmin says whether this process has CAP_SYS_ADMIN.
func mayAdmin() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&header, &data[0]) == nil && data[0].Effective>>unix.CAP_SYS_ADMIN&1 == 1
}

func checkShadowStack(p *process.Process) engine.Check {
	c := check("shadow stack")
	if ptrace.ShadowStack(p.PID()) {
		return failed(c, useEBPF, "it uses one (CET), on which made-up return addresses are missing")
	}
	c.Detail = "none"
	return c
}

// checkLeftover looks for the code of another gopherscope; found says that it is there.
func checkLeftover(t *target.Target) (c engine.Check, found bool) {
	c = check("left there")
	maps, err := t.Proc.Mappings()
	if err != nil {
		return failed(c, "", "%v", err), false
	}
	rings, ok := leftover(maps)
	if !ok {
		c.Detail = "nothing"
		return c, false
	}
	switch err := unowned(fmt.Sprintf("/proc/%d/map_files/%x-%x", t.Proc.PID(), rings.Start, rings.End)); {
	case errors.Is(err, ErrOwned):
		return failed(c, "wait for its end, or "+useEBPF, "%v", err), true
	case err != nil:
		return failed(c, "run as root", "%v", err), true
	}
	c.Status, c.Detail = engine.CheckWarn, "the code of a gopherscope that was killed, which records nothing any more"
	c.Hint = fmt.Sprintf("the next trace removes it, or: gopherscope detach %d", t.Proc.PID())
	return c, true
}

// checkCode lays the code out as for a trace, and compares the process's own with the
// file.
func checkCode(t *target.Target) []engine.Check {
	c, space := check("code"), check("address space")
	sites, err := plan(t)
	if err != nil {
		return []engine.Check{failed(c, useEBPF, "%v", err)}
	}
	in, err := prepare(t, sites, shape{rings: minRings, ringBytes: pageSize})
	switch {
	case errors.Is(err, ErrNoSpace):
		return []engine.Check{failed(space, useEBPF, "%v", err)}
	case errors.Is(err, ErrText):
		return []engine.Check{failed(c, "end what uses breakpoints or uprobes on the process", "%v", err)}
	case errors.Is(err, gobinary.ErrWindow):
		return []engine.Check{failed(c, useEBPF, "%v: this runtime is not understood", err)}
	case err != nil:
		return []engine.Check{failed(c, useEBPF, "%v", err)}
	}
	space.Detail = fmt.Sprintf("%d KiB at %#x", codeBytes>>10, in.prog.base)
	c.Detail = fmt.Sprintf("%d places in memory are as in the file", len(in.prog.hooks))
	if err := in.release(); err != nil {
		return []engine.Check{failed(c, "", "%v", err)}
	}
	return []engine.Check{space, c}
}

// refuse is the error for the first check that failed; nil if none did.
func refuse(checks []engine.Check) error {
	for _, c := range checks {
		if c.Status == engine.CheckFail {
			return fmt.Errorf("%w: %s: %s", ErrUnfit, c.Name, c.Detail)
		}
	}
	return nil
}

// Works says whether the engine would work for a process, and what a hit costs then, in
// ns.
func Works(t *target.Target) (ns float64, ok bool) {
	if t.Proc == nil || t.CheckArch() != nil || refuse(CheckHost()) != nil || refuse(CheckProcess(t)) != nil {
		return 0, false
	}
	p, err := calibrate()
	return p.hit, err == nil
}
