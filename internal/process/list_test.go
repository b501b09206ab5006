package process

import (
	"errors"
	"os"
	"os/exec"
	"testing"
)

func TestList(t *testing.T) {
	zombie := start(t, exec.Command("true"))
	sleep := start(t, exec.Command("sleep", "1000"))
	eventually(t, "true is a zombie", func() bool {
		_, err := Open(zombie.Process.Pid)
		return errors.Is(err, ErrExited)
	})
	entries, _, err := List()
	if err != nil {
		t.Fatal(err)
	}
	pids := map[int]FileID{}
	for i, e := range entries {
		if i > 0 && entries[i-1].PID >= e.PID {
			t.Errorf("PID %d after %d", e.PID, entries[i-1].PID)
		}
		if e.Exe == (FileID{}) {
			t.Errorf("PID %d has no executable", e.PID)
		}
		pids[e.PID] = e.Exe
	}
	self, err := fileID("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if pids[os.Getpid()] != self {
		t.Errorf("this process: %v, want %v", pids[os.Getpid()], self)
	}
	if _, ok := pids[sleep.Process.Pid]; !ok {
		t.Error("sleep is not listed")
	}
	if _, ok := pids[zombie.Process.Pid]; ok {
		t.Error("a zombie is listed")
	}
	if _, ok := pids[2]; ok && isKernelThread(2) {
		t.Error("a kernel thread is listed")
	}
}

func isKernelThread(pid int) bool {
	_, err := Open(pid)
	return errors.Is(err, ErrKernelThread)
}

func BenchmarkList(b *testing.B) {
	for b.Loop() {
		entries, _, err := List()
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(entries)), "processes")
	}
}
