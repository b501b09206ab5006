//go:build amd64

package hard_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"gopherscope/internal/testenv"
	"gopherscope/test/traced"
)

// TestPlugin: the program loads a plugin while it is traced, and is traced again with the
// plugin in it. What the plugin's copy of the runtime does is not seen: that is said, and
// the program is right. A plugin takes long to compile: GOPHERSCOPE_MATRIX=1.
func TestPlugin(t *testing.T) {
	if os.Getenv("GOPHERSCOPE_MATRIX") != "1" {
		t.Skip("a plugin takes long to compile: GOPHERSCOPE_MATRIX=1")
	}
	bin := testenv.BuildTarget(t, "plugged", testenv.Build{Cgo: true})
	part := filepath.Join(t.TempDir(), "part.so")
	// With the flags of the program: it refuses packages that are not the same.
	build := exec.Command("go", "build", "-buildvcs=false", "-buildmode=plugin", "-ldflags=-linkmode=external", "-o", part, "./plugged/part")
	build.Dir, build.Env = testenv.Testprog(t), append(os.Environ(), "CGO_ENABLED=1", "GOFLAGS=", "GOWORK=off", "GOTOOLCHAIN=local")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, e := range traced.Engines() {
		t.Run(string(e), func(t *testing.T) {
			p := testenv.Start(t, bin, part)
			p.WaitLine("ready")
			work := func() { p.Go(); p.WaitLine("done") }
			for loaded := range 2 {
				sc := trace(t, e, strconv.Itoa(p.PID()))
				sc.attached()
				work()
				lines, sum := sc.end()
				if len(lines) == 0 {
					t.Error("nothing was seen")
				}
				noted := strings.Contains(sc.Stderr(), "part.so")
				t.Logf("%d events, %d violations; noted: %v", sum.Events, sum.Violations, noted)
				if noted != (loaded == 1) {
					t.Errorf("the plugin in the note is %v:\n%s", noted, sc.Stderr())
				}
				work()
			}
			if err := p.Wait(); err != nil {
				t.Errorf("the program: %v\n%s", err, p.Stderr())
			}
		})
	}
}
