//go:build amd64

package stress_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
)

// size is what a process holds.
type size struct {
	fds      int
	maps     int
	resident int // bytes
}

// growth is what a process held at times. The most of the first quarter is compared with
// the least of the last: a program's own coming and going is no growth.
type growth []size

// add measures a process; "self" is this one, whose garbage does not count.
func (g *growth) add(t *testing.T, pid string) {
	t.Helper()
	if pid == "self" {
		debug.FreeOSMemory()
	}
	*g = append(*g, measure(t, pid))
}

// ends are the most of the first quarter and the least of the last.
func (g growth) ends() (first, last size) {
	quarter := max(1, len(g)/4)
	for _, s := range g[:quarter] {
		first = size{max(first.fds, s.fds), max(first.maps, s.maps), max(first.resident, s.resident)}
	}
	last = g[len(g)-1]
	for _, s := range g[len(g)-quarter:] {
		last = size{min(last.fds, s.fds), min(last.maps, s.maps), min(last.resident, s.resident)}
	}
	return first, last
}

// String has both ends.
func (g growth) String() string {
	first, last := g.ends()
	return fmt.Sprintf("%d then %d descriptors, %d then %d mappings, %d then %d MB",
		first.fds, last.fds, first.maps, last.maps, first.resident>>20, last.resident>>20)
}

// check fails the test when the process grows by more than its own life can explain. A few
// cycles do not tell.
func (g growth) check(t *testing.T, who string, by size) {
	t.Helper()
	if len(g) < leastCycles {
		return
	}
	first, last := g.ends()
	if last.fds > first.fds+by.fds || last.maps > first.maps+by.maps || last.resident > first.resident+by.resident {
		t.Errorf("%s grows: %v", who, g)
	}
}

func measure(t *testing.T, pid string) (s size) {
	t.Helper()
	dir := filepath.Join("/proc", pid)
	names, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		t.Fatal(err)
	}
	s.fds = len(names)
	maps, err := os.ReadFile(filepath.Join(dir, "maps"))
	if err != nil {
		t.Fatal(err)
	}
	s.maps = bytes.Count(maps, []byte("\n"))
	statm, err := os.ReadFile(filepath.Join(dir, "statm"))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(statm))[1])
	if err != nil {
		t.Fatal(err)
	}
	s.resident = pages * os.Getpagesize()
	return s
}
