package hard_test

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"gopherscope/internal/testenv"
	"gopherscope/test/traced"
)

// build is how the program hard is compiled: the newest runtime, where most has changed.
var build = testenv.Build{Go: "1.27"}

// subject is the program hard.
type subject struct {
	*testenv.Process
	t          testing.TB
	pid        int // in our PID namespace
	ping, pong int64
}

// start runs the program; under is what it is run by, if anything.
func start(t testing.TB, args []string, under ...string) *subject {
	t.Helper()
	testenv.RequireRoot(t)
	command := append(append(under, testenv.BuildTarget(t, "hard", build)), args...)
	s := &subject{Process: testenv.Start(t, command[0], command[1:]...), t: t}
	s.pid = s.PID()
	s.ready()
	return s
}

// ready reads what it says of itself.
func (s *subject) ready() {
	s.t.Helper()
	s.WaitLine("ready")
	s.ping = s.number("goid ping ")
	s.pong = s.number("goid pong ")
}

func (s *subject) number(prefix string) int64 {
	s.t.Helper()
	text := strings.TrimSpace(strings.TrimPrefix(s.WaitLine(prefix), prefix))
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		s.t.Fatalf("%s%s", prefix, text)
	}
	return n
}

// do gives a command and returns the number in the answer, if there is one.
func (s *subject) do(command string) int64 {
	s.t.Helper()
	s.WriteLine(command)
	return s.answered(command)
}

// answered waits for the answer to a command.
func (s *subject) answered(command string) int64 {
	s.t.Helper()
	name, _, _ := strings.Cut(command, " ")
	text := strings.TrimSpace(strings.TrimPrefix(s.WaitLine(name), name))
	if text == "" {
		return 0
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		s.t.Fatalf("%s: answer %q", command, text)
	}
	return n
}

// finish looks whether it is alive and right, and ends it.
func (s *subject) finish() {
	s.t.Helper()
	s.do("work 1000")
	if err := s.Wait(); err != nil {
		s.t.Errorf("the program: %v\n%s", err, s.Stderr())
	}
}

func (s *subject) operand() string { return strconv.Itoa(s.pid) }

// untouched fails the test if rings or code of ours are in the program: it has no executable
// memory but its own, and all of its code is that of the file.
func (s *subject) untouched() {
	s.t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", s.pid))
	if err != nil {
		s.t.Fatal(err)
	}
	for text := range strings.Lines(string(maps)) {
		f := strings.Fields(text)
		name := strings.Join(f[5:], " ")
		own := name == "[vdso]" || name == "[vsyscall]" || strings.HasPrefix(filepath.Base(name), "hard-")
		if strings.Contains(f[1], "x") && !own || strings.Contains(name, "memfd:") {
			s.t.Errorf("there is something of ours in the program: %s", text)
		}
	}
	s.original()
}

// original compares the program's code in memory with the file.
func (s *subject) original() {
	s.t.Helper()
	file, err := elf.Open(fmt.Sprintf("/proc/%d/exe", s.pid))
	if err != nil {
		s.t.Fatal(err)
	}
	defer file.Close()
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", s.pid))
	if err != nil {
		s.t.Fatal(err)
	}
	defer mem.Close()
	for _, p := range file.Progs {
		if p.Type != elf.PT_LOAD || p.Flags&elf.PF_X == 0 {
			continue
		}
		want, have := make([]byte, p.Filesz), make([]byte, p.Filesz)
		_, err := p.ReadAt(want, 0)
		if _, e := mem.ReadAt(have, int64(p.Vaddr)); err != nil || e != nil {
			s.t.Fatal(err, e)
		}
		if !bytes.Equal(want, have) {
			s.t.Error("the program's code is not that of the file")
		}
	}
}

// state is that of the main thread, as a letter: proc(5).
func (s *subject) state() string {
	s.t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.pid))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(stat[strings.LastIndexByte(string(stat), ')')+2])
}

// attachedTo starts a trace of the program and waits until it is attached.
func (s *subject) attachedTo(e traced.Engine, args ...string) *scope {
	s.t.Helper()
	sc := trace(s.t, e, append(args, s.operand())...)
	sc.attached()
	return sc
}

// chain fails the test unless each change of a goroutine leaves the state that the one
// before entered, and all are the process's own. It returns how many there are.
func chain(t testing.TB, lines []line, pid int, goid int64) (n int) {
	t.Helper()
	last := ""
	for i := range lines {
		l := &lines[i]
		if l.PID != pid {
			t.Fatalf("a change of another process: %s", l.Text)
		}
		if l.GoID != goid {
			continue
		}
		if n++; last != "" && last != l.From || l.Violation {
			t.Fatalf("from %s to %s, in: %s", last, l.From, l.Text)
		}
		last = l.To
	}
	return n
}

// worked is a lower bound of the changes of ping and of pong that so many round trips make:
// each has to wait for the other once in each.
func worked(trips int) int { return 3 * trips / 2 }
