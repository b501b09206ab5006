//go:build amd64

// Package stress_test attaches each engine to a program that does everything a tracer
// might disturb, and checks itself (testdata/testprog/stress), and detaches it, over
// and over; and kills the tracer at any moment. The program must live and be right, and
// nothing may stay behind: not in it, not in the tracer, not in the kernel.
//
// GOPHERSCOPE_SOAK sets for how long in all, GOPHERSCOPE_CYCLES how often for each build;
// with either, every build of [allBuilds] is tested. See docs/HACKING.md.
package stress_test

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gopherscope/internal/engine"
	"gopherscope/internal/engine/ebpf"
	"gopherscope/internal/engine/inline"
	"gopherscope/internal/event"
	"gopherscope/internal/gstate"
	"gopherscope/internal/process"
	"gopherscope/internal/ptrace"
	"gopherscope/internal/target"
	"gopherscope/internal/testenv"
)

func TestMain(m *testing.M) {
	if of := os.Getenv(victimOf); of != "" {
		os.Exit(victim(of))
	}
	os.Exit(m.Run())
}

// tracer is an engine by its name.
type tracer string

const (
	viaKernel tracer = "ebpf"
	viaCode   tracer = "inline"
)

var tracers = []tracer{viaCode, viaKernel}

// start attaches.
func (tr tracer) start(tgt *target.Target) (engine.Engine, error) {
	if tr == viaCode {
		// Larger rings than by default: the machine may have other work for a while.
		e, err := inline.Start(tgt, &inline.Options{RingBytes: 16 << 20})
		if err != nil {
			return nil, err
		}
		return e, nil
	}
	ns, err := process.SelfPIDNS()
	if err != nil {
		return nil, err
	}
	e, err := ebpf.Start(tgt, &ebpf.Options{PIDNamespace: &ns})
	if err != nil {
		return nil, err
	}
	return e, nil
}

// subject is a stress program at work.
type subject struct {
	*testenv.Process
	t    testing.TB
	proc *process.Process
	tgt  *target.Target
	text []elf.ProgHeader // its executable segments
	path string
	file []byte

	refused int // traces, as the program could not be stopped in time
}

func start(t testing.TB, b testenv.Build, args ...string) *subject {
	t.Helper()
	testenv.RequireRoot(t)
	bin := testenv.BuildTarget(t, "stress", b)
	s := &subject{Process: testenv.Start(t, bin, args...), t: t, path: bin}
	s.WaitLine("ready")
	var err error
	if s.proc, err = process.Open(s.PID()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.proc.Close() })
	if s.tgt, err = target.Open(s.proc); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.tgt.Close() })
	if s.file, err = os.ReadFile(bin); err != nil {
		t.Fatal(err)
	}
	f, err := elf.NewFile(bytes.NewReader(s.file))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 {
			s.text = append(s.text, p.ProgHeader)
		}
	}
	return s
}

// alive asks the program whether it is.
func (s *subject) alive() {
	s.t.Helper()
	s.Go()
	for {
		line, ok := s.ReadLine()
		if !ok {
			s.t.Fatalf("the program ended: %s", s.Stderr())
		}
		if line == "alive" {
			return
		}
	}
}

// untouched looks for anything that is not as it was.
func (s *subject) untouched() {
	s.t.Helper()
	s.codeIs(func(uint64, byte) bool { return false })
	s.nothingMore()
}

// codeIs compares the program's code with the file. Another byte has to be allowed.
func (s *subject) codeIs(allowed func(addr uint64, have byte) bool) {
	s.t.Helper()
	for _, p := range s.text {
		have := make([]byte, p.Filesz)
		if err := s.proc.ReadMem(p.Vaddr+s.tgt.Bias, have); err != nil {
			s.t.Fatal(err)
		}
		if want := s.file[p.Off:][:p.Filesz]; !bytes.Equal(have, want) {
			for i := range have {
				if have[i] != want[i] && !allowed(p.Vaddr+uint64(i), have[i]) {
					s.t.Fatalf("code at %#x is %#x, %#x in the file", p.Vaddr+uint64(i), have[i], want[i])
				}
			}
		}
	}
}

// nothingMore looks for what is not the program's own: mappings, descriptors, uprobes, a
// tracer.
func (s *subject) nothingMore() {
	s.t.Helper()
	maps, err := s.proc.Mappings()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, m := range maps {
		anonymous := m.File.Inode == 0 && !strings.HasPrefix(m.Path, "[v")
		if strings.Contains(m.Path, "memfd:gopherscope") || m.Exec && anonymous {
			s.t.Fatalf("a mapping was left: %+v", m)
		}
	}
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", s.PID()))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && strings.Contains(to, "memfd:gopherscope") {
			s.t.Fatalf("a descriptor was left: %s", to)
		}
	}
	s.noUprobes()
	if tracer, err := s.proc.Status("TracerPid"); err != nil || tracer != "0" {
		s.t.Fatalf("tracer %s, %v", tracer, err)
	}
}

// uprobeEvents lists the uprobes that were made by name, not by a descriptor that goes with
// its process: kernel/trace/trace_uprobe.c, probes_seq_show. None of ours may be there.
const uprobeEvents = "/sys/kernel/tracing/uprobe_events"

func (s *subject) noUprobes() {
	s.t.Helper()
	list, err := os.ReadFile(uprobeEvents)
	if errors.Is(err, fs.ErrNotExist) {
		return // tracefs is not mounted: nobody can have made one
	}
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(string(list)) {
		if strings.Contains(line, s.path) {
			s.t.Fatalf("a uprobe was left: %s", line)
		}
	}
}

// end ends the program, which says then what it has done.
func (s *subject) end() {
	s.t.Helper()
	s.WriteLine("end")
	lines := s.Lines()
	if err := s.Wait(); err != nil {
		s.t.Errorf("the program: %v\n%s", err, s.Stderr())
	}
	if len(lines) == 0 || !strings.HasPrefix(lines[0], "rounds ") {
		s.t.Errorf("it says nothing of its rounds: %q", lines)
	}
}

// maxRefused is how often a machine may be so busy that the program cannot be stopped in time. A
// trace is refused then, and must leave nothing behind.
const maxRefused = 100

// trace attaches, follows every change for a while, and detaches. It returns how much was
// lost, and for how long the program was stopped at most.
func (s *subject) trace(tr tracer, d time.Duration) (stats engine.Stats, pause time.Duration) {
	s.t.Helper()
	e, err := tr.start(s.tgt)
	for ; errors.Is(err, ptrace.ErrDeadline) && s.refused < maxRefused; e, err = tr.start(s.tgt) {
		s.refused++
		s.untouched()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	states := gstate.NewTracker()
	emit := func(ev *event.Event) error { states.Apply(ev); return nil }
	for end := time.Now().Add(d); time.Now().Before(end); {
		if err := e.Poll(time.Millisecond, emit); err != nil {
			s.t.Fatal(err)
		}
	}
	pause = stopTime(e)
	if err := e.Stop(); err != nil {
		s.t.Fatal(err)
	}
	if err := e.Poll(0, emit); err != nil {
		s.t.Fatal(err)
	}
	if stats, err = e.Stats(); err != nil {
		s.t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		s.t.Fatal(err)
	}
	if v := states.Violations(); v > 0 && stats.Lost.Total() == 0 {
		s.t.Fatalf("%s: %d violations in %d events and nothing lost", tr, v, stats.Events)
	}
	return stats, max(pause, stopTime(e))
}

// stopTime is for how long the engine stopped the program the last time; the kernel's does
// not.
func stopTime(e engine.Engine) time.Duration {
	if stops, ok := e.(*inline.Engine); ok {
		pause, _ := stops.StopTime()
		return pause
	}
	return 0
}
