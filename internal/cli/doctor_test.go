package cli

import (
	"os/exec"
	"strings"
	"testing"

	"gopherscope/internal/engine"
	"gopherscope/internal/testenv"
)

func TestDoctorWorks(t *testing.T) {
	for _, tt := range []struct {
		v    verdict
		bad  int
		want string
	}{
		{verdict{}, 0, "trace works on this host; "},
		{verdict{}, 2, "tracing does not work; dump and leaks need none of that"},
		{verdict{process: true, readable: true}, 0, "trace, dump and leaks work"},
		{verdict{process: true, readable: true}, 1, "tracing does not work; dump and leaks work"},
		{verdict{process: true}, 1, "trace, dump and leaks do not work"},
	} {
		if got := tt.v.works(tt.bad); !strings.Contains(got, tt.want) {
			t.Errorf("%+v: %q, want %q", tt.v, got, tt.want)
		}
	}
}

// TestCheckProcess checks a process that may be read, and one that is no Go program.
func TestCheckProcess(t *testing.T) {
	p := testenv.Start(t, testenv.BuildTarget(t, "still", testenv.Build{}))
	p.WaitLine("held")
	checks, readable := checkProcess(p.PID())
	if !readable || len(checks) != 6 || checks[2].Name != "memory" || checks[2].Status != engine.CheckOK {
		t.Errorf("%v, %+v", readable, checks)
	}
	other := exec.Command("sleep", "60")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer other.Wait()
	defer other.Process.Kill()
	checks, readable = checkProcess(other.Process.Pid)
	if last := checks[len(checks)-1]; readable || last.Name != "Go runtime" || last.Status != engine.CheckFail {
		t.Errorf("sleep, PID %d: %v, %+v", other.Process.Pid, readable, checks)
	}
}
