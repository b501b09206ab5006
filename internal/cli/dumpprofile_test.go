package cli_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/pprof/profile"

	"gopherscope/internal/cli"
	"gopherscope/internal/testenv"
)

// profiledFrames is how many frames of a stack are compared: a program's own
// profile has no more than 32 up to Go 1.22 (runtime/mprof.go, StackRecord).
const profiledFrames = 30

var typeArguments = regexp.MustCompile(`\[.*\]`)

// stacksOf counts the goroutines of a profile by their stacks, main's left out: it
// writes its own profile meanwhile. A program's own profile has the type arguments
// that its tracebacks leave out.
func stacksOf(p *profile.Profile) map[string]int64 {
	stacks := map[string]int64{}
	for _, s := range p.Sample {
		var lines []string
		for _, l := range s.Location {
			for _, line := range l.Line {
				f := line.Function
				lines = append(lines, fmt.Sprintf("%s %s:%d", typeArguments.ReplaceAllString(f.Name, "[...]"), f.Filename, line.Line))
			}
		}
		if stack := strings.Join(lines[:min(len(lines), profiledFrames)], "\n"); !strings.Contains(stack, "main.main ") {
			stacks[stack] += s.Value[0]
		}
	}
	return stacks
}

func readProfile(t *testing.T, path string) *profile.Profile {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := profile.ParseData(data)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestDumpIsProfile compares the profile that dump writes with the one that the
// program writes of itself.
func TestDumpIsProfile(t *testing.T) {
	for _, build := range stillBuilds {
		t.Run(build.String(), func(t *testing.T) {
			t.Parallel()
			p := startStill(t, build)
			dir := t.TempDir()
			own, ours := filepath.Join(dir, "own"), filepath.Join(dir, "ours")
			if said := p.Ask("profile " + own); len(said) > 0 {
				t.Fatal(said)
			}
			dumpOf(t, p.PID(), "--pprof", "-o", ours)
			want, got := readProfile(t, own), readProfile(t, ours)
			if len(stacksOf(want)) < 25 {
				t.Fatalf("the program's profile has %d stacks", len(stacksOf(want)))
			}
			if diff := cmp.Diff(stacksOf(want), stacksOf(got)); diff != "" {
				t.Errorf("the program's and ours differ (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(want.SampleType, got.SampleType, cmp.AllowUnexported(profile.ValueType{})); diff != "" {
				t.Errorf("sample type (-want +got):\n%s", diff)
			}
			checkOwnLabels(t, p.Ask("labels"), got)
		})
	}
}

// checkOwnLabels looks for the labels that the program said it has: lines of
// label, goid, key, value. An empty value is no label in the format of profiles.
func checkOwnLabels(t *testing.T, lines []string, p *profile.Profile) {
	t.Helper()
	want := map[string]int64{}
	for _, line := range lines {
		var goid int
		var key, value string
		if _, err := fmt.Sscanf(line, "label %d %q %q", &goid, &key, &value); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if value != "" {
			want[key+"="+value]++
		}
	}
	got := map[string]int64{}
	for _, s := range p.Sample {
		for key, values := range s.Label {
			if key != "state" && key != "reason" && key != "created_by" {
				got[key+"="+values[0]] += s.Value[0]
			}
		}
	}
	if diff := cmp.Diff(want, got); len(want) == 0 || diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
}

// TestDumpPrivate wants output files that only their owner can read, and none
// after an error.
func TestDumpPrivate(t *testing.T) {
	p := startStill(t, testenv.Build{})
	path := filepath.Join(t.TempDir(), "out")
	for _, flags := range [][]string{{}, {"--json"}, {"--group"}, {"--pprof"}} {
		out, _ := dumpOf(t, p.PID(), append(flags, "-o", path)...)
		st, err := os.Stat(path)
		if err != nil || st.Mode().Perm() != 0o600 || st.Size() == 0 || out != "" {
			t.Errorf("%v: %v, %v, %d bytes on standard output", flags, st, err, len(out))
		}
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
	var out, errs bytes.Buffer
	if code := cli.Main([]string{"dump", "-o", path, "999999999"}, cli.Stdio{Out: &out, Err: &errs}); code != 1 {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("an output file without a dump")
	}
}
