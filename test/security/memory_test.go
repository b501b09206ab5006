package security_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"gopherscope/internal/testenv"
	"gopherscope/test/traced"
)

// The most that a command may take of a program that lies about its goroutines, on a
// machine that is busy with other things.
const (
	hostileTime   = 30 * time.Second
	hostileMemory = 300 << 20
)

// TestHostileProcess reads and traces a program that overwrites its list of goroutines,
// their structs and their stacks, and goes on doing so. Each command ends soon and in
// little memory, with one error or with what could be read, and the program is
// unharmed.
func TestHostileProcess(t *testing.T) {
	traced.Tool(t)
	t.Parallel() // most of the time it waits for the tool
	bin := build(t, "hostile")
	for _, test := range []struct {
		kind string
		want string // an error; "" if there is a result
	}{
		{"length", "runtime layout not understood: allgs has 1099511627776 entries"},
		{"far", "read allgs"},
		{"zeros", "allgs has 67108864 entries, for which the process has no memory"},
		{"same", ""},
		{"garbage", ""},
	} {
		t.Run(test.kind, func(t *testing.T) {
			p := testenv.Start(t, bin, test.kind)
			p.WaitLine("held")
			pid := strconv.Itoa(p.PID())
			commands := [][]string{
				{"dump", pid},
				{"dump", "--waiting-on", pid},
				{"leaks", "-d", "0", pid},
				{"trace", "-d", "100ms", "--json", pid},
				{"trace", "-d", "100ms", "--json", "--engine", "inline", "--stacks", pid},
			}
			if test.kind == "zeros" || test.kind == "same" {
				commands = commands[:1] // the others take the same list, and it takes its time
			}
			for _, args := range commands {
				o := run(t, args...)
				what := strings.Join(args[:len(args)-1], " ")
				if o.took > hostileTime || o.maxRSS > hostileMemory {
					t.Errorf("%s: took %v and %d MiB", what, o.took, o.maxRSS>>20)
				}
				if strings.Contains(o.err, "panic") || strings.Contains(o.err, "goroutine 1 [") || o.code < 0 || o.code > 1 {
					t.Errorf("%s: exit code %d\n%s", what, o.code, o.err)
				}
				if o.code == 1 && strings.Count(o.err, "gopherscope: error: ") != 1 {
					t.Errorf("%s: not one error:\n%s", what, o.err)
				}
				switch {
				case test.want != "" && (o.code != 1 || !strings.Contains(o.err, test.want)):
					t.Errorf("%s: exit code %d, want an error with %q:\n%s", what, o.code, test.want, o.err)
				case test.want == "" && o.code == 0 && o.out == "":
					t.Errorf("%s: exit code 0 and nothing on standard output", what)
				}
				if test.kind != "garbage" && test.want == "" && !strings.Contains(o.out, "main.deep") {
					t.Errorf("%s: the goroutines that are in order are not shown", what)
				}
			}
			// It sleeps and changes as before: a signal that its runtime would pass on to
			// a goroutine is not for it, so look at whether it is there.
			if ended(p.PID()) {
				t.Errorf("the program has ended:\n%s", p.Stderr())
			}
		})
	}
}
