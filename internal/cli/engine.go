package cli

import (
	"errors"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"gopherscope/internal/elapsed"
	"gopherscope/internal/engine"
	"gopherscope/internal/engine/ebpf"
	"gopherscope/internal/engine/inline"
	"gopherscope/internal/gobinary"
	"gopherscope/internal/process"
	"gopherscope/internal/ptrace"
)

// engineOptions say how a process is traced.
type engineOptions struct {
	name string // auto, ebpf or inline
	ring string // a size, or "" for the engine's default

	overhead string // the most that the trace may cost; "" for the default

	stacks bool // where goroutines park, enter system calls and are created

	keepStacks bool // the trace is for its stacks: the budget pauses sooner than do without

	noLabels bool // with stacks, but nobody looks at the pprof labels

	attachesAgain bool // later, perhaps: no capability is given up
}

// The engines by name.
const (
	engineAuto   = "auto"
	engineEBPF   = "ebpf"
	engineInline = "inline"
)

// flags adds the flags of all commands that trace.
func (o *engineOptions) flags(fl *pflag.FlagSet) {
	fl.StringVar(&o.name, "engine", engineAuto, "how to trace: ebpf (uprobes) or inline (code in the process, far cheaper); auto is ebpf")
	fl.StringVar(&o.ring, "ring-size", "", "buffer for events, such as 16M: a larger one loses less when the tool is starved (default 16M; with inline 2M to 16M for each thread, by GOMAXPROCS)")
	fl.StringVar(&o.overhead, "max-overhead", "", "the most that the trace may cost the process, as a share of the CPU time that it uses, or off: beyond it the trace pauses now and then (default "+defaultOverhead+" of a PID, off for a command)")
}

// check reads the flags.
func (o *engineOptions) check() error {
	switch o.name {
	case engineAuto, engineEBPF, engineInline:
	default:
		return usagef("--engine %q is none of auto, ebpf, inline", o.name)
	}
	if _, err := overhead(o.overhead, operand{}); err != nil {
		return err
	}
	_, err := o.ringBytes()
	return err
}

// explainInline adds the way out to the refusal of the inline engine.
func explainInline(err error) error {
	switch {
	case errors.Is(err, inline.ErrOwned):
		return withHint(err, "end the other trace first, or use --engine ebpf")
	case errors.Is(err, inline.ErrText):
		return withHint(err, "a debugger or another tracer is at work on the process: end it, or use --engine ebpf; what one left that was killed, gopherscope detach PID removes")
	case errors.Is(err, ptrace.ErrTraced):
		return withHint(err, "end that trace first, or use --engine ebpf, which needs no ptrace")
	case errors.Is(err, inline.ErrUnfit), errors.Is(err, inline.ErrNoSpace), errors.Is(err, ptrace.ErrDeadline),
		errors.Is(err, ptrace.ErrShadowStack), errors.Is(err, ptrace.ErrScratch), errors.Is(err, gobinary.ErrWindow), errors.Is(err, gobinary.ErrNotYet):
		return withHint(err, "nothing was changed; use --engine ebpf; gopherscope doctor PID lists what the inline engine needs")
	case errors.Is(err, ptrace.ErrPermission):
		return withHint(err, "needs CAP_SYS_PTRACE, or the same user and kernel.yama.ptrace_scope=0; or use --engine ebpf")
	}
	return err
}

// ringBytes is the size asked for; 0 means the engine's default.
func (o *engineOptions) ringBytes() (int, error) {
	if o.ring == "" {
		return 0, nil
	}
	return parseSize(o.ring)
}

// advise says in a line that the inline engine would work, and how much cheaper it would
// be, when nobody chose the other.
func (s *session) advise() {
	if s.opts.name != engineAuto || s.proc == nil || s.launched != nil {
		return
	}
	ns, ok := inline.Works(s.target)
	if !ok {
		return
	}
	cost, err := s.engine.Cost()
	if err != nil || cost.NsPerUprobe < ns {
		return
	}
	s.term.notef("note: --engine inline would work here: a change would cost the process some %.0f ns instead of %s",
		ns, elapsed.Text(time.Duration(cost.NsPerUprobe)))
}

// attach starts the engine.
func (s *session) attach() (engine.Engine, error) {
	ring, err := s.opts.ringBytes()
	if err != nil {
		return nil, err
	}
	if s.opts.name == engineInline {
		opts := &inline.Options{RingBytes: ring, Stacks: s.opts.stacks}
		if s.launched != nil {
			opts.OnTracer = s.launched.OnTracer
		}
		eng, err := inline.Start(s.target, opts)
		if err != nil {
			return nil, explainInline(err)
		}
		if pause, threads := eng.StopTime(); threads > 0 {
			s.term.notef("attached: %d threads stopped for %s", threads, elapsed.Text(pause))
		}
		return eng, nil
	}
	ns, err := process.SelfPIDNS()
	if err != nil {
		return nil, err
	}
	eng, err := ebpf.Start(s.target, &ebpf.Options{RingBytes: ring, Stacks: s.opts.stacks, PIDNamespace: &ns})
	if err != nil {
		return nil, err
	}
	return eng, nil
}

// parseSize reads a number of bytes with an optional suffix K, M or G.
func parseSize(s string) (int, error) {
	shift, digits := 0, s
	if n := len(s); n > 0 {
		switch s[n-1] {
		case 'k', 'K':
			shift, digits = 10, s[:n-1]
		case 'm', 'M':
			shift, digits = 20, s[:n-1]
		case 'g', 'G':
			shift, digits = 30, s[:n-1]
		}
	}
	v, err := strconv.ParseUint(digits, 10, 31)
	if err != nil || v == 0 || v<<shift > 1<<30 {
		return 0, usagef("--ring-size %q is not a size up to 1G, such as 16M", s)
	}
	return int(v) << shift, nil
}
