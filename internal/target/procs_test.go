package target_test

import (
	"strconv"
	"testing"
	"time"

	"gopherscope/internal/process"
	"gopherscope/internal/target"
	"gopherscope/internal/testenv"
)

// TestProcs: GOMAXPROCS as the process was told it, not as the machine has CPUs.
func TestProcs(t *testing.T) {
	for _, b := range []testenv.Build{{Go: "1.18", Stripped: true}, {Go: "1.21", PIE: true}, {Go: "1.24"}, {Go: "1.27", Stripped: true}, {}} {
		for _, want := range []int{1, 7, 300} {
			t.Run(b.String()+"-"+strconv.Itoa(want), func(t *testing.T) {
				p := testenv.StartEnv(t, []string{"WAIT=1", "GOMAXPROCS=" + strconv.Itoa(want)}, testenv.BuildTarget(t, "idle", b))
				p.WaitLine("ready")
				proc, err := process.Open(p.PID())
				if err != nil {
					t.Fatal(err)
				}
				defer proc.Close()
				tgt, err := target.Open(proc)
				if err != nil {
					t.Fatal(err)
				}
				defer tgt.Close()
				if got := tgt.Procs(); got != want {
					t.Errorf("%d, want %d", got, want)
				}
				p.Kill()
				for begin := time.Now(); !proc.Exited() && time.Since(begin) < testenv.Deadline; time.Sleep(time.Millisecond) {
				}
				if got := tgt.Procs(); got != 0 {
					t.Errorf("%d of a process that is gone", got)
				}
			})
		}
	}
}

// TestProcsNoProcess: a binary alone has none.
func TestProcsNoProcess(t *testing.T) {
	tgt, err := target.OpenBinary(testenv.BuildTarget(t, "idle", testenv.Build{}))
	if err != nil {
		t.Fatal(err)
	}
	defer tgt.Close()
	if got := tgt.Procs(); got != 0 {
		t.Errorf("%d", got)
	}
}
