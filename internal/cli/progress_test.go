package cli_test

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/pprof/profile"

	"gopherscope/internal/cli"
	"gopherscope/internal/testenv"
)

// idlePID is a process that waits.
func idlePID(t *testing.T) string {
	t.Helper()
	cmd := exec.Command(testenv.BuildTarget(t, "idle", testenv.Build{}))
	cmd.Env = append(os.Environ(), "WAIT=1")
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	startPS(t, cmd)
	return strconv.Itoa(cmd.Process.Pid)
}

// TestPatience: a person hears how long it takes, a script does not.
func TestPatience(t *testing.T) {
	testenv.RequireBPF(t)
	pid, dir := idlePID(t), t.TempDir()
	for _, tt := range []struct {
		doing string
		args  []string
	}{
		{"adding up", []string{"stat"}},
		{"adding up", []string{"stat", "-i", "1s"}},
		{"profiling", []string{"profile"}},
		{"recording", []string{"record", "-o", filepath.Join(dir, "run.gscope")}},
		{"tracing", []string{"trace", "--json"}},
		{"converting", []string{"convert", "--to", "json"}},
	} {
		args := append(tt.args, "-d", "100ms", pid)
		master, slave := testenv.Terminal(t, 80)
		read := make(chan string)
		go func() {
			b, _ := io.ReadAll(master) // the end is an EIO
			read <- string(b)
		}()
		if code := cli.Main(args, cli.Stdio{Out: io.Discard, Err: slave}); code != 0 {
			t.Errorf("%v: exit code %d", args, code)
		}
		slave.Close()
		want := "gopherscope: " + tt.doing + " for 100ms; Ctrl-C ends it early"
		if got := <-read; !strings.Contains(got, want) {
			t.Errorf("%v: on a terminal: %q, want %q", args, got, want)
		}
		var stderr strings.Builder
		if code := cli.Main(args, cli.Stdio{Out: io.Discard, Err: &stderr}); code != 0 || strings.Contains(stderr.String(), want) {
			t.Errorf("%v: elsewhere: exit code %d, %q", args, code, &stderr)
		}
	}
}

// TestCtrlC: at a terminal a command without an end shows how far it is. Ctrl-C ends it
// cleanly, with the result written and the messages in lines of their own.
func TestCtrlC(t *testing.T) {
	testenv.RequireBPF(t)
	pid, dir := idlePID(t), t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, tt := range []struct {
		args  []string
		after string // Ctrl-C comes when this has been seen; \K begins a line anew
		last  string // of the screen
		check func() error
	}{
		{
			[]string{"profile", "--kind", "wall", "-o", path("wall.pb.gz"), pid}, `profiling until (?s:.*)\Kgopherscope: [1-9]s, \d+ events, \d+ samples`, "wall: ",
			func() error {
				f, err := os.Open(path("wall.pb.gz"))
				if err != nil {
					return err
				}
				defer f.Close()
				_, err = profile.Parse(f)
				return err
			},
		},
		{
			[]string{"record", "-o", path("run.gscope"), pid}, `recording until (?s:.*)\Kgopherscope: [1-9]s, \d+ events, `, "recorded ",
			func() error { return exec.Command("gopherscope", "stat", path("run.gscope")).Run() },
		},
		{
			[]string{"record", "--last", "5s", "-o", path("incident.gscope"), pid}, `waiting for SIGUSR1(?s:.*)\Kgopherscope: \d+ events, kept [1-9]s`, "no file was written",
			func() error { return nil },
		},
		{
			[]string{"trace", "-o", path("trace.txt"), pid}, `tracing until (?s:.*)there before`, " 0 violations",
			func() error { _, err := os.Stat(path("trace.txt")); return err },
		},
		{
			[]string{"leaks", "-d", "6s", "-o", path("leaks.txt"), pid}, `\Kgopherscope: snapshot 2 of 7`, "ended early, after ",
			func() error { _, err := os.Stat(path("leaks.txt")); return err },
		},
	} {
		t.Run(tt.args[0], func(t *testing.T) {
			master, slave := testenv.Terminal(t, 200)
			cmd := exec.Command("gopherscope", tt.args...)
			cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			slave.Close()
			kill := time.AfterFunc(testenv.Deadline, func() { cmd.Process.Kill() })
			defer kill.Stop()
			after := regexp.MustCompile(strings.ReplaceAll(tt.after, `\K`, `\r\x1b\[K`))
			var screen []byte
			for typed := false; ; {
				buf := make([]byte, 4096)
				n, err := master.Read(buf)
				if err != nil {
					break // nobody writes there any more
				}
				screen = append(screen, buf[:n]...)
				if !typed && after.Match(screen) {
					if _, err := master.Write([]byte{3}); err != nil {
						t.Fatal(err)
					}
					typed = true
				}
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("it ended with %v", err)
			}
			if err := tt.check(); err != nil {
				t.Errorf("the result: %v", err)
			}
			text := strings.ReplaceAll(string(screen), "^C", "") // which the terminal shows
			if glued := regexp.MustCompile(`[^\nK]gopherscope: .*`).FindString(text); glued != "" {
				t.Errorf("not in a line of its own: %q", glued)
			}
			lines := strings.Split(strings.TrimSpace(text), "\n")
			if last := lines[len(lines)-1]; !strings.Contains(last, tt.last) {
				t.Errorf("last line %q, want %q", last, tt.last)
			}
			if t.Failed() {
				t.Logf("the screen: %q", screen)
			}
		})
	}
}
