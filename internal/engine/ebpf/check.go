package ebpf

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"gopherscope/internal/engine"
	"gopherscope/internal/engine/probes"
	"gopherscope/internal/gobinary"
)

// CheckHost tries everything that the engine needs of this host, on this
// process itself.
func CheckHost() []engine.Check {
	return []engine.Check{
		checkKernel(),
		checkCapabilities(),
		checkLockdown(),
		checkPrograms(),
		checkTracepoints(byKernel),
		checkUprobes(),
	}
}

// CheckBinary says at how many places of a binary probes would sit.
func CheckBinary(bin *gobinary.File) engine.Check {
	c := engine.Check{Name: "probe sites", Status: engine.CheckOK}
	sites, err := probes.Plan(bin)
	if err != nil {
		c.Status, c.Detail = engine.CheckFail, err.Error()
		c.Hint = "this binary's runtime is not understood; nothing will be touched"
		return c
	}
	c.Detail = fmt.Sprintf("%d places of the runtime found and verified", len(sites))
	return c
}

// The oldest kernel with all that is used: bpf_get_attach_cookie came with it.
const minMajor, minMinor = 5, 15

// checkKernel only warns of an old kernel: the programs are tried below, and some
// distributions have what they need in older ones.
func checkKernel() engine.Check {
	c := engine.Check{Name: "kernel", Status: engine.CheckOK}
	release, old := oldKernel()
	c.Detail = "Linux " + release
	if old {
		c.Status = engine.CheckWarn
		c.Hint = fmt.Sprintf("older than %d.%d: works only where the distribution has added what is missing", minMajor, minMinor)
	}
	return c
}

// oldKernel gives the kernel's release and says whether it is older than the oldest that
// has all by itself. One whose release is no number is not.
func oldKernel() (release string, old bool) {
	major, minor, release := kernelVersion()
	return release, major != 0 && (major < minMajor || major == minMajor && minor < minMinor)
}

// kernelVersion gives the kernel's release and the numbers that it begins with, 0 if it has none.
func kernelVersion() (major, minor int, release string) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return 0, 0, "of unknown release"
	}
	release = unix.ByteSliceToString(u.Release[:])
	if n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor); n != 2 {
		return 0, 0, release
	}
	return major, minor, release
}

// checkCapabilities looks at the effective set in /proc/self/status.
func checkCapabilities() engine.Check {
	c := engine.Check{Name: "capabilities", Status: engine.CheckOK}
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return failed(c, err, "mount /proc")
	}
	var caps uint64
	if _, rest, ok := strings.Cut(string(text), "\nCapEff:"); ok {
		if _, err := fmt.Sscanf(strings.TrimSpace(rest), "%x", &caps); err != nil {
			return failed(c, fmt.Errorf("read CapEff: %w", err), "")
		}
	}
	has := func(bit uint) bool { return caps>>bit&1 == 1 }
	if has(unix.CAP_SYS_ADMIN) {
		c.Detail = "CAP_SYS_ADMIN"
		if !has(unix.CAP_SYS_PTRACE) {
			c.Status, c.Hint = engine.CheckWarn, "without CAP_SYS_PTRACE only processes of the same user can be read"
		}
		return c
	}
	var missing []string
	for _, want := range []struct {
		bit  uint
		name string
	}{{unix.CAP_BPF, "CAP_BPF"}, {unix.CAP_PERFMON, "CAP_PERFMON"}, {unix.CAP_SYS_PTRACE, "CAP_SYS_PTRACE"}, {unix.CAP_DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH"}} {
		if !has(want.bit) {
			missing = append(missing, want.name)
		}
	}
	switch {
	case len(missing) == 0:
		c.Detail = "CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"
		return c
	case has(unix.CAP_BPF) && has(unix.CAP_PERFMON):
		c.Status, c.Detail = engine.CheckWarn, "missing "+strings.Join(missing, ", ")
		c.Hint = "only processes of the same user can be traced"
		return c
	}
	c.Status, c.Detail = engine.CheckFail, "missing "+strings.Join(missing, ", ")
	c.Hint = "run as root, or: setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search+ep gopherscope"
	return c
}

// checkLockdown reads the kernel's lockdown mode: in confidentiality mode BPF
// programs may not read memory (security/lockdown, LOCKDOWN_BPF_READ_KERNEL).
func checkLockdown() engine.Check {
	c := engine.Check{Name: "lockdown", Status: engine.CheckOK, Detail: "off"}
	text, err := os.ReadFile("/sys/kernel/security/lockdown")
	if err != nil {
		return c
	}
	if _, mode, ok := strings.Cut(string(text), "["); ok {
		c.Detail, _, _ = strings.Cut(mode, "]")
	}
	if c.Detail == "confidentiality" {
		c.Status = engine.CheckFail
		c.Hint = "the kernel was started with lockdown=confidentiality, which forbids BPF programs to read memory"
	}
	return c
}

// checkPrograms loads the real programs and throws them away.
func checkPrograms() engine.Check {
	c := engine.Check{Name: "BPF programs", Status: engine.CheckOK, Detail: "load and pass the verifier"}
	spec, err := loadSpec(nil)
	if err != nil {
		return failed(c, err, "")
	}
	var objs objects
	err = spec.LoadAndAssign(&objs, nil)
	var verifier *ebpf.VerifierError
	_, old := oldKernel()
	switch {
	case err != nil && old:
		return failed(c, explain(err), "use --engine inline, or a newer kernel; dump and leaks work here")
	case errors.As(err, &verifier):
		return failed(c, err, "this kernel's verifier refuses the programs: please report it with the kernel's version")
	case err != nil:
		return failed(c, explain(err), "run as root, or: setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search+ep gopherscope")
	}
	if err := objs.Close(); err != nil {
		return failed(c, err, "")
	}
	return c
}

func checkTracepoints(by tracepointsBy) engine.Check {
	c := engine.Check{Name: "tracepoints", Status: engine.CheckOK, Detail: "sys_enter, sys_exit, sched_process_exec"}
	events, why, err := openPerfEvents(by)
	if err != nil {
		return failed(c, err, "")
	}
	defer events.Close()
	spec, err := loadSpec(events)
	if err != nil {
		return failed(c, err, "")
	}
	var objs objects
	if err := spec.LoadAndAssign(&objs, nil); err != nil {
		return failed(c, errors.New("not tried: the programs do not load"), "")
	}
	var l links
	err = errors.Join(l.attachTracepoints(&objs, events), l.Close(), objs.Close())
	if err != nil {
		return failed(c, err, "needs CAP_PERFMON and a kernel with CONFIG_FTRACE_SYSCALLS")
	}
	switch {
	case why != nil:
		c.Status, c.Detail = engine.CheckWarn, c.Detail+": without perf events: "+why.Error()
		c.Hint = "on this kernel changes at system calls can be lost, and are counted as recursion: run as root; or with CAP_DAC_READ_SEARCH, tracefs at /sys/kernel/tracing, and kernel.perf_event_paranoid at 2 or less"
	case events != nil:
		c.Detail += ": perf events"
	}
	return c
}

// checkUprobes attaches a probe to this process and measures what a hit costs.
func checkUprobes() engine.Check {
	c := engine.Check{Name: "uprobes", Status: engine.CheckOK}
	multi := haveUprobeMulti()
	ns, err := trapCost(multi)
	if err != nil {
		return failed(c, err, "needs CAP_PERFMON and a kernel with CONFIG_UPROBES and CONFIG_BPF_EVENTS")
	}
	how := "perf events, one for each site"
	if multi {
		how = "uprobe_multi links"
	}
	c.Detail = fmt.Sprintf("%s; a hit costs a traced program %s here", how, time.Duration(ns).Round(10*time.Nanosecond))
	return c
}

func failed(c engine.Check, err error, hint string) engine.Check {
	c.Status, c.Detail, c.Hint = engine.CheckFail, err.Error(), hint
	return c
}

// SiteOffsets are the file offsets of the instructions of a binary at which
// programs are attached: for measuring what the traps there cost by themselves.
func SiteOffsets(bin *gobinary.File) ([]uint64, error) {
	sites, err := probes.Plan(bin)
	if err != nil {
		return nil, err
	}
	offsets := make([]uint64, len(sites))
	for i := range sites {
		off, ok := bin.FileOffset(sites[i].PC)
		if !ok {
			return nil, fmt.Errorf("probe site in %s is not in the file", sites[i].Func)
		}
		offsets[i] = off
	}
	return offsets, nil
}
