package cli

import (
	"os/exec"
	"runtime"
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
	var v verdict
	v.checkProcess(p.PID())
	if !v.readable || len(v.checks) != 6 || v.checks[2].Name != "memory" || v.checks[2].Status != engine.CheckOK {
		t.Errorf("%+v", v)
	}
	if runtime.GOARCH == "amd64" && (failures(v.inline) != 0 || len(v.inline) < 7) {
		t.Errorf("checks of the inline engine: %+v", v.inline)
	}
	other := exec.Command("sleep", "60")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer other.Wait()
	defer other.Process.Kill()
	v = verdict{}
	v.checkProcess(other.Process.Pid)
	if last := v.checks[len(v.checks)-1]; v.readable || last.Name != "Go runtime" || last.Status != engine.CheckFail {
		t.Errorf("sleep, PID %d: %+v", other.Process.Pid, v)
	}
}
