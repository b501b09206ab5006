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
		{verdict{}, 2, "tracing with uprobes does not work; dump and leaks need none of that"},
		{verdict{process: true, readable: true}, 0, "trace, dump and leaks work"},
		{verdict{process: true, readable: true}, 1, "tracing with uprobes does not work; dump and leaks work"},
		{verdict{process: true}, 1, "trace, dump and leaks do not work"},
	} {
		if got := tt.v.works(tt.bad); !strings.Contains(got, tt.want) {
			t.Errorf("%+v: %q, want %q", tt.v, got, tt.want)
		}
	}
}

// TestDoctorInline: nothing is promised of a process that could not even be read.
func TestDoctorInline(t *testing.T) {
	failed := []engine.Check{{Status: engine.CheckOK}, {Status: engine.CheckFail}}
	for _, tt := range []struct {
		v    verdict
		bad  int
		want string
	}{
		{verdict{}, 0, "--engine inline works, too"},
		{verdict{}, 1, "tracing with --engine inline works"},
		{verdict{inline: failed}, 0, "--engine inline does not work: 1 of its 2 checks failed"},
		{verdict{process: true}, 1, ""},
		{verdict{process: true, readable: true}, 0, "--engine inline works, too"},
		{verdict{process: true, readable: true}, 1, "tracing with --engine inline works"},
		{verdict{process: true, readable: true, inline: failed}, 1, "--engine inline does not work: 1 of its 2 checks failed"},
	} {
		if got := tt.v.inlineWorks(tt.bad); got != tt.want {
			t.Errorf("%+v, %d failed: %q, want %q", tt.v, tt.bad, got, tt.want)
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
