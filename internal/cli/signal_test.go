package cli_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gopherscope/internal/testenv"
)

// endsWithin waits for a command, and wants it to end by itself with exit code 0.
func endsWithin(t *testing.T, cmd *exec.Cmd, limit time.Duration, messages *bytes.Buffer) {
	t.Helper()
	kill := time.AfterFunc(limit, func() { cmd.Process.Kill() })
	defer kill.Stop()
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %v\n%s", cmd.Args, err, messages)
	}
}

// head runs a command, reads lines of its output, and then closes the pipe as
// head(1) does. It returns the messages.
func head(t *testing.T, lines int, args ...string) string {
	t.Helper()
	cmd := exec.Command("gopherscope", args...)
	cmd.WaitDelay = time.Second // a program that was left behind has its standard error
	var messages bytes.Buffer
	cmd.Stderr = &messages
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(out)
	for range lines {
		if _, err := r.ReadString('\n'); err != nil {
			t.Error(err)
		}
	}
	out.Close()
	endsWithin(t, cmd, 20*time.Second, &messages)
	return messages.String()
}

// TestPipeEnds wants a command whose output nobody reads any more to end cleanly,
// and with it the program that it launched.
func TestPipeEnds(t *testing.T) {
	testenv.RequireBPF(t)
	pingpong := testenv.BuildTarget(t, "pingpong", testenv.Build{})
	messages := head(t, 2, "trace", "--", pingpong, "1000000000")
	var pid int
	ending := regexp.MustCompile(`ending the program that was launched \(PID \d+\)`).FindString(messages)
	if _, err := fmt.Sscanf(ending, "ending the program that was launched (PID %d)", &pid); err != nil {
		t.Fatalf("%v in %s", err, messages)
	}
	if err := unix.Kill(pid, 0); err != unix.ESRCH {
		t.Errorf("the program that was launched is still there: %v", err)
	}
	if !strings.Contains(messages, " 0 lost, 0 violations; ") || strings.Contains(messages, "error") {
		t.Errorf("no summary: %s", messages)
	}
	idle := testenv.Start(t, testenv.BuildTarget(t, "idle", testenv.Build{}))
	pid = idle.PID()
	time.Sleep(300 * time.Millisecond) // it settles down
	if messages := head(t, 1, "trace", fmt.Sprint(pid)); !strings.Contains(messages, " 0 lost, 0 violations") {
		t.Errorf("trace of an idle process: %s", messages)
	}
	churn := testenv.Start(t, testenv.BuildTarget(t, "leaky", testenv.Build{}))
	churn.WaitLine("ready")
	if messages := head(t, 1, "dump", "--json", fmt.Sprint(churn.PID())); strings.Contains(messages, "error") {
		t.Errorf("dump: %s", messages)
	}
	for _, command := range []string{"ps", "doctor"} {
		if messages := head(t, 0, command); strings.Contains(messages, "error") {
			t.Errorf("%s: %s", command, messages)
		}
	}
}

// TestSignalTwice sends a signal twice in a row, as a terminal and a shell may.
func TestSignalTwice(t *testing.T) {
	testenv.RequireRoot(t)
	p := startLeaky(t, testenv.Build{})
	cmd := exec.Command("gopherscope", "leaks", "-d", "1m", fmt.Sprint(p.PID()))
	var out, messages bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &messages
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second)
	for range 2 {
		cmd.Process.Signal(unix.SIGTERM) // an error says that it has ended, as it should
		time.Sleep(3 * time.Millisecond)
	}
	endsWithin(t, cmd, 20*time.Second, &messages)
	if !strings.Contains(messages.String(), "ended early, after 1 of 7 snapshots") || !strings.Contains(out.String(), "evidence") {
		t.Errorf("messages %q, output %q", &messages, &out)
	}
}
