//go:build amd64

// Package stress_test attaches the inline engine to a program that does everything a
// tracer might disturb, and checks itself (testdata/testprog/stress), and
// detaches it, over and over; and kills the tracer at any moment. The program must live
// and be right, and nothing may stay behind.
//
// GOPHERSCOPE_CYCLES sets how often, for each build.
package stress_test

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"gopherscope/internal/engine"
	"gopherscope/internal/engine/inline"
	"gopherscope/internal/event"
	"gopherscope/internal/gstate"
	"gopherscope/internal/process"
	"gopherscope/internal/target"
	"gopherscope/internal/testenv"
)

func TestMain(m *testing.M) {
	if pid := os.Getenv(victimOf); pid != "" {
		os.Exit(victim(pid))
	}
	os.Exit(m.Run())
}

// cycles is how often to attach and detach.
func cycles(t *testing.T) int {
	text := os.Getenv("GOPHERSCOPE_CYCLES")
	if text == "" {
		return 200
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("GOPHERSCOPE_CYCLES=%q", text)
	}
	return n
}

// builds are a Go version with each way to find the status fields, a way to load a
// program, and C code each.
func builds() []testenv.Build {
	if os.Getenv("GOPHERSCOPE_MATRIX") == "1" {
		return testenv.Matrix()
	}
	return []testenv.Build{{Go: "1.21", PIE: true}, {Go: "1.24", Cgo: true}, {Go: "1.27"}}
}

// subject is a stress program at work.
type subject struct {
	*testenv.Process
	t    testing.TB
	proc *process.Process
	tgt  *target.Target
	text []elf.ProgHeader // its executable segments
	file []byte
}

func start(t testing.TB, b testenv.Build, args ...string) *subject {
	t.Helper()
	testenv.RequireRoot(t)
	bin := testenv.BuildTarget(t, "stress", b)
	s := &subject{Process: testenv.Start(t, bin, args...), t: t}
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

// untouched looks for anything that is not as it was: code, mappings, descriptors, a
// tracer.
func (s *subject) untouched() {
	s.t.Helper()
	for _, p := range s.text {
		have := make([]byte, p.Filesz)
		if err := s.proc.ReadMem(p.Vaddr+s.tgt.Bias, have); err != nil {
			s.t.Fatal(err)
		}
		if want := s.file[p.Off:][:p.Filesz]; !bytes.Equal(have, want) {
			for i := range have {
				if have[i] != want[i] {
					s.t.Fatalf("code at %#x is %#x, %#x in the file", p.Vaddr+uint64(i), have[i], want[i])
				}
			}
		}
	}
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
	if tracer, err := s.proc.Status("TracerPid"); err != nil || tracer != "0" {
		s.t.Fatalf("tracer %s, %v", tracer, err)
	}
}

// trace attaches, follows every change for a while, and detaches.
func (s *subject) trace(d time.Duration) (stats engine.Stats, pauses [2]time.Duration, violations uint64) {
	s.t.Helper()
	e, err := inline.Start(s.tgt, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	pauses[0], _ = e.StopTime()
	states := gstate.NewTracker()
	emit := func(ev *event.Event) error { states.Apply(ev); return nil }
	for end := time.Now().Add(d); time.Now().Before(end); {
		if err := e.Poll(time.Millisecond, emit); err != nil {
			s.t.Fatal(err)
		}
	}
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
	pauses[1], _ = e.StopTime()
	return stats, pauses, states.Violations()
}

func TestCycles(t *testing.T) {
	for _, b := range builds() {
		t.Run(b.String(), func(t *testing.T) {
			s := start(t, b, "-storm", "2000")
			var events, lost, violations uint64
			var longest time.Duration
			for i := range cycles(t) {
				stats, pauses, v := s.trace(15 * time.Millisecond)
				events, lost, violations = events+stats.Events, lost+stats.Lost.Total(), violations+v
				longest = max(longest, pauses[0], pauses[1])
				if v > 0 && stats.Lost.Total() == 0 {
					t.Fatalf("cycle %d: %d violations and nothing lost", i, v)
				}
				s.untouched()
				if i%10 == 0 {
					s.alive()
				}
			}
			s.alive()
			t.Logf("%d events, %d lost, %d violations, longest pause %v", events, lost, violations, longest)
			if events == 0 || lost > 0 {
				t.Errorf("%d events, %d lost", events, lost)
			}
		})
	}
}
