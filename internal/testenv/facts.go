package testenv

import (
	"bufio"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Facts is what a target program printed about itself: what it knows it did.
type Facts struct {
	Counts map[string]int64 // lines "count KEY N"
	GoIDs  map[string]int64 // lines "goid KEY N"
}

// ParseFacts reads a target program's output; other lines are ignored.
func ParseFacts(t testing.TB, lines []string) Facts {
	t.Helper()
	f := Facts{Counts: map[string]int64{}, GoIDs: map[string]int64{}}
	for _, line := range lines {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[0] != "count" && fields[0] != "goid" {
			continue
		}
		n, err := strconv.ParseInt(fields[2], 10, 64)
		if err != nil {
			t.Fatalf("target printed %q: %v", line, err)
		}
		if fields[0] == "goid" {
			f.GoIDs[fields[1]] = n
		} else {
			f.Counts[fields[1]] = n
		}
	}
	return f
}

// Site is a marked line of a target program's source.
type Site struct {
	File string // base name
	Line int
}

// Sites is the lines of testdata/testprog/internal/work that end in a comment "// site: KEY",
// by key. The programs mark their go statements so that a test can ask for the
// exact line.
func Sites(t testing.TB) map[string]Site {
	t.Helper()
	return SitesIn(t, filepath.Join("internal", "work"))
}

// SitesIn is [Sites] for the program, or the package, in a directory of
// testdata/testprog.
func SitesIn(t testing.TB, dir string) map[string]Site {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(Testprog(t), dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no target sources: %v", err)
	}
	sites := map[string]Site{}
	for _, path := range files {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		scanner := bufio.NewScanner(f)
		for n := 1; scanner.Scan(); n++ {
			if _, key, ok := strings.Cut(scanner.Text(), "// site: "); ok {
				sites[key] = Site{File: filepath.Base(path), Line: n}
			}
		}
		f.Close()
	}
	return sites
}
