// Package target joins what the other packages know of one traced program: the
// process, its binary, and where its runtime keeps what. It is the place where
// everything is validated before anything is touched: the struct layout from
// the binary's type descriptors against its machine code, its DWARF if there
// is any, and the live memory. Any disagreement is an error that names it.
//
// A Target is immutable after Open and safe for concurrent use.
package target

import (
	"errors"
	"fmt"
	"runtime"

	"gopherscope/internal/gobinary"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/process"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrUnsupportedGo is a Go release outside the known window.
	ErrUnsupportedGo = errors.New("unsupported Go version")
	// ErrLayout is a disagreement between two sources of the runtime's layout.
	ErrLayout = errors.New("runtime layout not understood")
	// ErrArch is a binary for another architecture than this tool's.
	ErrArch = errors.New("foreign architecture")
)

// Target is a Go program whose runtime is understood.
type Target struct {
	Proc    *process.Process // nil for a binary without a process, or with a dead one
	Mem     process.Memory   // the process's memory; nil for a binary without one
	Bin     *gobinary.File
	Layout  Layout
	Reasons []string // the wait reasons, by number
	Bias    uint64   // what to add to an address of Bin to get one of the process
	Notes   []string // what the user should know, one sentence each
}

// Open reads and validates the Go program that p executes. The caller keeps
// owning p and must Close the Target.
func Open(p *process.Process) (*Target, error) {
	t, err := OpenBinary(p.ExePath())
	if err != nil {
		return nil, err
	}
	bias, err := p.LoadBias(Segments(t.Bin))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("load bias: %w", err), t.Close())
	}
	t.Proc = p
	if err := t.UseMemory(p, bias); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	t.notePlugins()
	return t, nil
}

// UseMemory gives a Target that was made by [OpenBinary] the memory of a program
// that executes the binary, or did, with the binary's addresses moved by bias. It
// validates what is there; a memory that is refused is not kept.
func (t *Target) UseMemory(mem process.Memory, bias uint64) error {
	t.Mem, t.Bias = mem, bias
	if err := t.checkLive(); err != nil {
		t.Mem, t.Bias = nil, 0
		return err
	}
	return nil
}

// CheckArch says whether the program runs on this machine's architecture: nil or
// ErrArch.
func (t *Target) CheckArch() error {
	if string(t.Bin.Arch()) != runtime.GOARCH {
		return fmt.Errorf("%w: the binary is for %s, this tool for %s", ErrArch, t.Bin.Arch(), runtime.GOARCH)
	}
	return nil
}

// OpenBinary reads and validates a Go executable that need not be running. The
// caller must Close the Target.
func OpenBinary(path string) (*Target, error) {
	bin, err := gobinary.Open(path)
	if err != nil {
		return nil, err
	}
	t := &Target{Bin: bin}
	if err := t.checkBinary(); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// Close releases the binary.
func (t *Target) Close() error { return t.Bin.Close() }

// checkBinary fills in the layout and compares its sources.
func (t *Target) checkBinary() error {
	v := t.Bin.Version()
	if v.TooOld() {
		return fmt.Errorf("%w: %s is older than go1.%d", ErrUnsupportedGo, v, goruntime.MinMinor)
	}
	if v.TooNew() {
		t.Notes = append(t.Notes, fmt.Sprintf("%s is newer than the last known release, go1.%d; every check passed", v, goruntime.MaxMinor))
	}
	var err error
	if t.Layout, err = readLayout(t.Bin); err != nil {
		return err
	}
	if err := t.Layout.checkStatusOffset(t.Bin); err != nil {
		return err
	}
	if err := t.Layout.checkDWARF(t.Bin); err != nil {
		return err
	}
	if t.Reasons, err = t.Bin.WaitReasons(); err != nil {
		return fmt.Errorf("wait reasons: %w", err)
	}
	if len(t.Reasons) < 2 || t.Reasons[1] != goruntime.FirstWaitReason {
		return fmt.Errorf("%w: the table of wait reasons begins %.2q", ErrLayout, t.Reasons)
	}
	return nil
}

// Segments are the loadable segments of bin as package process wants them.
func Segments(bin *gobinary.File) []process.Segment {
	var out []process.Segment
	for _, s := range bin.Segments() {
		out = append(out, process.Segment{Vaddr: s.Vaddr, Off: s.Off, Filesz: s.Filesz, Memsz: s.Memsz, Flags: s.Flags})
	}
	return out
}
