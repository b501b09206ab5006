package cli_test

import (
	"bytes"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"gopherscope/internal/testenv"
)

// TestExec traces a process that executes another program: a trace ends with that, whether or
// not it pauses just then, and has nothing of what the other program does.
func TestExec(t *testing.T) {
	testenv.RequireBPF(t)
	bin := testenv.BuildTarget(t, "hard", testenv.Build{})
	for _, budget := range []string{"0.1%", "off"} {
		t.Run(budget, func(t *testing.T) {
			for range 5 { // what comes after it is seen now and then only
				p := testenv.Start(t, bin)
				p.WaitLine("goid pong ")
				var out, messages bytes.Buffer
				cmd := exec.Command("gopherscope", "trace", "--json", "--engine", "ebpf", "--max-overhead", budget, strconv.Itoa(p.PID()))
				cmd.Stdout, cmd.Stderr = &out, &messages
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				time.Sleep(1500 * time.Millisecond) // seen by the tracer, whose output comes in blocks
				p.WriteLine("pace 300ms")
				p.WaitLine("pace ")
				p.WriteLine("exec")
				p.WaitLine("goid pong ")
				// A pause of a process that uses no CPU lasts five seconds.
				endsWithin(t, cmd, 2*time.Second, &messages)
				paused := strings.Contains(out.String(), `{"type":"gap"`)
				_, after, ok := strings.Cut(out.String(), `{"type":"exec"`)
				if lines := strings.Count(after, "\n"); !ok || lines != 2 || paused != (budget != "off") {
					t.Errorf("execs: %v, and then %d lines; want itself and the summary; gaps: %v\n%.2000s\n%s", ok, lines, paused, after, &messages)
				}
				p.Kill()
			}
		})
	}
}
