package security_test

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"gopherscope/internal/testenv"
	"gopherscope/test/traced"
)

// code is the code of a program: as its file has it, and where.
type code struct {
	addr uint64
	file []byte
}

func codeOf(t *testing.T, bin string) code {
	t.Helper()
	f, err := elf.Open(bin)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	text := f.Section(".text")
	data, err := text.Data()
	if err != nil || f.Type != elf.ET_EXEC {
		t.Fatalf("%s: %v, %v", bin, f.Type, err)
	}
	return code{text.Addr, data}
}

// changed is how many bytes of a process's code are not those of its file.
func (c *code) changed(t *testing.T, pid int) int {
	t.Helper()
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	now := make([]byte, len(c.file))
	if _, err := mem.ReadAt(now, int64(c.addr)); err != nil {
		t.Fatal(err)
	}
	n := 0
	for i := range now {
		if now[i] != c.file[i] {
			n++
		}
	}
	return n
}

// mapped is the process's mappings that are gopherscope's.
func mapped(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(text, []byte("/memfd:gopherscope"))
}

// TestWhatStays compares the code and the mappings of a process before, during and after a
// trace with each engine, which ends as asked or is killed.
func TestWhatStays(t *testing.T) {
	traced.Tool(t)
	t.Parallel() // most of the time it waits for the tool
	bin := testenv.BuildTarget(t, "still", testenv.Build{})
	c := codeOf(t, bin)
	for _, test := range []struct {
		engine string
		signal os.Signal
		stays  bool
	}{
		{"ebpf", os.Interrupt, false},
		{"ebpf", os.Kill, false},
		{"inline", os.Interrupt, false},
		{"inline", os.Kill, true}, // until gopherscope detach, or the next trace
	} {
		t.Run(test.engine+" "+test.signal.String(), func(t *testing.T) {
			p := testenv.Start(t, bin)
			p.WaitLine("held")
			if n := c.changed(t, p.PID()); n != 0 {
				t.Fatalf("before: %d bytes of the code differ", n)
			}
			cmd := exec.Command(traced.Tool(t), "trace", "--json", "--engine", test.engine, strconv.Itoa(p.PID()))
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			for c.changed(t, p.PID()) == 0 || test.engine == "inline" && mapped(t, p.PID()) == 0 {
				if time.Since(begun) > testenv.Deadline {
					cmd.Process.Kill()
					t.Fatal("the code was never changed")
				}
				time.Sleep(10 * time.Millisecond)
			}
			time.Sleep(100 * time.Millisecond) // all of it is in place
			if err := cmd.Process.Signal(test.signal); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait() // its end is the signal
			if !test.stays {
				if n, maps := c.changed(t, p.PID()), mapped(t, p.PID()); n != 0 || maps != 0 {
					t.Errorf("%d bytes of the code and %d mappings are left", n, maps)
				}
				return
			}
			if c.changed(t, p.PID()) == 0 || mapped(t, p.PID()) == 0 {
				t.Error("nothing is left, against what docs/security.md says")
			}
			if o := must(t, "detach", strconv.Itoa(p.PID())); !strings.Contains(o.err, "removed") {
				t.Errorf("detach: %s", o.err)
			}
			if n, maps := c.changed(t, p.PID()), mapped(t, p.PID()); n != 0 || maps != 0 {
				t.Errorf("after detach: %d bytes of the code and %d mappings are left", n, maps)
			}
		})
	}
}
