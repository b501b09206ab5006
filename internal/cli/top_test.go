package cli_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gopherscope/internal/testenv"
)

// tmuxTerm is a real terminal: a server of its own with one window, in which a
// program runs.
type tmuxTerm struct {
	t      *testing.T
	socket string
	dir    string // where the program runs
}

// inTerminal runs a program in a terminal of that size, and after it a shell that
// prints its exit code and whether the terminal is as a shell needs it.
func inTerminal(t *testing.T, width, height int, env []string, program string) *tmuxTerm {
	t.Helper()
	if _, err := exec.LookPath("tmux"); err != nil {
		testenv.Missing(t, "tmux: "+err.Error())
	}
	dir := t.TempDir()
	term := &tmuxTerm{t: t, socket: filepath.Join(dir, "s"), dir: dir}
	script := program + `; echo "exit code $?"; stty -a | grep -o -- '-\?\(icanon\|echo\) ' | tr -d '\n'; echo; exec cat`
	args := []string{"-f", "/dev/null", "new-session", "-d", "-x", strconv.Itoa(width), "-y", strconv.Itoa(height), "-c", dir, "env"}
	args = append(append(args, env...), "sh", "-c", script)
	term.tmux(args...)
	t.Cleanup(func() { exec.Command("tmux", "-S", term.socket, "kill-server").Run() }) // it ends with its last window, too
	return term
}

func (m *tmuxTerm) tmux(args ...string) string {
	m.t.Helper()
	cmd := exec.Command("tmux", append([]string{"-S", m.socket}, args...)...)
	cmd.Env = append(os.Environ(), "TMUX=")
	out, err := cmd.CombinedOutput()
	if err != nil {
		m.t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	return string(out)
}

func (m *tmuxTerm) keys(keys ...string) {
	m.t.Helper()
	m.tmux(append([]string{"send-keys"}, keys...)...)
}

func (m *tmuxTerm) screen() string { m.t.Helper(); return m.tmux("capture-pane", "-p") }

// wait waits until the screen matches, and returns it.
func (m *tmuxTerm) wait(pattern string) string {
	m.t.Helper()
	re := regexp.MustCompile(pattern)
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		screen := m.screen()
		if re.MatchString(screen) {
			return screen
		}
		if time.Now().After(end) {
			m.t.Fatalf("%q did not come; the screen is:\n%s", pattern, screen)
		}
	}
}

// row is the row of a table that has a text.
func row(t *testing.T, screen, text string) string {
	t.Helper()
	const head = 6 // lines above the table
	for i, line := range strings.Split(screen, "\n") {
		if i >= head && strings.Contains(line, text) {
			return strings.TrimSpace(line)
		}
	}
	t.Fatalf("no row has %q:\n%s", text, screen)
	return ""
}

var utf8Env = []string{"TERM=screen-256color", "LC_ALL=C.UTF-8", "NO_COLOR="}

// idleStates is how Go 1.26 names what goroutines of the program idle wait for.
var idleStates = map[string]string{
	"chan_receive": "chan receive", "chan_send": "chan send", "chan_receive_nil": "chan receive (nil c…", "select": "select",
	"select_no_cases": "select (no cases)", "sleep": "sleep", "mutex": "sync.Mutex.Lock", "rwmutex_write": "sync.RWMutex.Lock",
	"waitgroup": "sync.WaitGroup.Wait", "cond": "sync.Cond.Wait", "io_wait": "IO wait", "syscall": "syscall", "locked": "chan receive",
}

// TestTop types at the whole program in a real terminal, and reads the screen. What
// it must show is what the program that is watched says of itself.
func TestTop(t *testing.T) {
	idle := testenv.Start(t, testenv.BuildTarget(t, "idle", testenv.Build{}))
	facts := map[string]string{} // the number of each goroutine
	for {
		line, ok := idle.ReadLine()
		if !ok || line == "held" {
			break
		}
		if f := strings.Fields(line); len(f) == 3 && f[0] == "goid" {
			facts[f[1]] = f[2]
		}
	}
	m := inTerminal(t, 110, 40, utf8Env, fmt.Sprintf("gopherscope top --interval 300ms %d", idle.PID()))
	m.wait(`\d+ goroutines by creation site`)
	m.keys("g")
	m.wait(`by wait reason`)
	m.keys("g", "g", "g", "g")
	m.wait(`GOID STATE`)

	screen := m.screen()
	for key, state := range idleStates {
		if got := strings.TrimPrefix(row(t, screen, " "+facts[key]+" "), "> "); !regexp.MustCompile(`^\s*` + facts[key] + ` ` + regexp.QuoteMeta(state) + `  `).MatchString(got) {
			t.Errorf("the goroutine of %s is shown as %q", key, got)
		}
	}
	id := facts["chan_receive"]
	m.keys("/", "^"+id+"$", "Enter")
	m.wait(`(?m)^1 goroutine  filter`)
	m.keys("Enter")
	m.wait(`(?s)goroutine ` + id + `\n.*waiting \(chan receive\).*created by testprog/internal/work\.Idle idle\.go:\d+ in goroutine 1\n.*stack.*testprog/internal/work\.hold idle.*seen in the last \d+ sample`)
	m.keys("w")
	m.wait(`written to gopherscope-top-\d{8}-\d{6}\.txt`)
	m.keys("Escape")
	m.wait(`(?m)^1 goroutine  filter`)
	m.keys("Escape")
	m.wait(`\d\d goroutines`)
	m.keys("?")
	m.wait(`any key goes back`)
	m.keys("?")
	m.tmux("resize-window", "-x", "60", "-y", "15")
	m.wait(`\? help   q quit   enter open   g group   / filter`)

	files, err := filepath.Glob(filepath.Join(m.dir, "gopherscope-top-*.txt"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%q were written: %v", files, err)
	}
	if info, err := os.Stat(files[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if text, err := os.ReadFile(files[0]); err != nil || !strings.Contains(string(text), "waiting (chan receive)") || strings.ContainsRune(string(text), '\x1b') {
		t.Errorf("written: %q, %v", text, err)
	}

	idle.Go()
	if err := idle.Wait(); err != nil {
		t.Errorf("the program that was watched: %v", err)
	}
	m.wait(`(?s)ENDED.*the process has exited`)
	m.keys("q")
	screen = m.wait(`exit code 0\n ?icanon  ?echo`)
	if strings.Contains(screen, "GOID") {
		t.Errorf("something is left on the screen:\n%s", screen)
	}
}

// TestTopEngine switches each engine on and off, and ends top with Ctrl-C while one is
// attached.
func TestTopEngine(t *testing.T) {
	testenv.RequireBPF(t)
	leaky := testenv.Start(t, testenv.BuildTarget(t, "leaky", testenv.Build{}))
	leaky.WaitLine("ready")
	for _, engine := range []string{"ebpf", "inline"} {
		t.Run(engine, func(t *testing.T) {
			m := inTerminal(t, 120, 40, utf8Env, fmt.Sprintf("gopherscope top --max-overhead off --engine %s %d", engine, leaky.PID()))
			m.wait(`(?s)engine off.*main\.pool`)
			m.keys("e")
			m.wait(`(?s)lost 0  ` + engine + ` costs it .* transitions/s.*SCHED P99.*TRANS/S.*BLOCKED/S`)
			// 50 workers, to whom 100 short jobs a second come, wait nearly all the time.
			m.wait(`\b50 .* (?:4\d|50)\.\ds main\.pool`)
			m.keys("e")
			m.wait(`engine off`)
			m.keys("e")
			m.wait(`transitions/s`)
			m.keys("C-c")
			m.wait(`exit code 0`)
			if _, err := exec.Command("gopherscope", "dump", "--states", strconv.Itoa(leaky.PID())).Output(); err != nil {
				t.Errorf("the program that was traced: %v", err)
			}
		})
	}
	leaky.Wait() // its end of input ends it
	if text := leaky.Stderr(); text != "" {
		t.Errorf("the program that was traced says %s", text)
	}
}

// TestTopTerminals wants clear lines where top cannot draw, and the signals to end it.
func TestTopTerminals(t *testing.T) {
	idle := testenv.Start(t, testenv.BuildTarget(t, "idle", testenv.Build{}))
	idle.WaitLine("held")
	command := fmt.Sprintf("gopherscope top %d", idle.PID())
	m := inTerminal(t, 100, 20, []string{"TERM=dumb"}, command)
	m.wait(`(?s)error: top needs a terminal that can place text, and TERM is "dumb".*hint: .*dump --group.*exit code 2`)

	m = inTerminal(t, 100, 20, []string{"TERM=screen-256color", "LC_ALL=C"}, command+" --no-color")
	m.wait(`v?COUNT`)
	coloured := m.tmux("capture-pane", "-p", "-e")
	if regexp.MustCompile(`\x1b\[(?:\d+;)*3[0-7](?:;\d+)*m`).MatchString(coloured) {
		t.Errorf("colours in spite of --no-color: %q", coloured)
	}
	for _, r := range m.screen() {
		if r >= 0x80 {
			t.Errorf("%q on a terminal that shows ASCII only", r)
		}
	}
	m.tmux("send-keys", "C-c")
	m.wait(`exit code 0`)

	m = inTerminal(t, 100, 20, utf8Env, "sh -c 'echo $$ >pid; exec "+command+"'")
	m.wait(`▼COUNT`)
	text, err := os.ReadFile(filepath.Join(m.dir, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(pid, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if screen := m.wait(`exit code 0\n`); strings.Contains(screen, "COUNT") {
		t.Errorf("something is left on the screen:\n%s", screen)
	}
	m.wait(`\n ?icanon  ?echo`)
}
