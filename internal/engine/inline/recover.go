package inline

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gopherscope/internal/process"
	"gopherscope/internal/target"
)

// cleanTries bounds how often Clean looks again because what it saw was just going away.
const cleanTries = 10

// Clean removes what a gopherscope that was killed left in t's process; found says
// whether there was something. It is ErrOwned if that gopherscope is alive, and ErrLeft if
// not all can be removed.
//
// The thread that the killed one had borrowed may still be making its last system call, an
// munmap or a close, after the kernel has let go of it: what was seen can be gone a moment
// later. Then Clean looks again.
func Clean(t *target.Target) (found bool, err error) {
	for range cleanTries {
		found, err = clean(t)
		if err == nil || errors.Is(err, ErrOwned) || errors.Is(err, ErrLeft) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	return found, err
}

func clean(t *target.Target) (found bool, err error) {
	maps, err := t.Proc.Mappings()
	if err != nil {
		return false, err
	}
	rings, mapped := leftover(maps)
	open := descriptors(t.Proc.PID())
	if !mapped && len(open) == 0 {
		return false, nil
	}
	what := &manifest{}
	if mapped {
		if err := unowned(fmt.Sprintf("/proc/%d/map_files/%x-%x", t.Proc.PID(), rings.Start, rings.End)); err != nil {
			return true, err
		}
		if what, err = readManifest(t, maps, rings); err != nil {
			return true, err
		}
	}
	for _, fd := range open {
		if err := unowned(fmt.Sprintf("/proc/%d/fd/%d", t.Proc.PID(), fd)); err != nil {
			return true, err
		}
	}
	in, err := newInjection(t)
	if err != nil {
		return true, err
	}
	in.what, in.descriptors = what, open
	return true, errors.Join(in.remove(), in.release())
}

// descriptors are those of the rings that are open in the process.
func descriptors(pid int) []int {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var found []int
	for _, e := range entries {
		to, err := os.Readlink(dir + "/" + e.Name())
		if fd, e := strconv.Atoi(e.Name()); e == nil && err == nil && strings.HasPrefix(to, "/memfd:"+mapName+" ") {
			found = append(found, fd)
		}
	}
	return found
}

// leftover finds the mapping of the rings.
func leftover(maps []process.Mapping) (process.Mapping, bool) {
	for _, m := range maps {
		if m.Shared && strings.HasPrefix(m.Path, "/memfd:"+mapName+" ") {
			return m, true
		}
	}
	return process.Mapping{}, false
}

// unowned says whether nobody holds the lock that a gopherscope at work has on the rings'
// file. The file has no name; it is opened through the mapping, which needs
// CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE (fs/proc/base.c, map_files).
func unowned(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("find out whether another gopherscope is at work: %w", err)
	}
	defer f.Close()
	switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
	case errors.Is(err, unix.EWOULDBLOCK):
		return ErrOwned
	case err != nil:
		return fmt.Errorf("lock rings: %w", err)
	}
	return nil
}

// readManifest reads what was changed, and believes no more of it than what it can be: the
// places lie in the program's code and held what the file holds there, the mappings are
// the ones that we make. So what is written for it is only the file's own bytes.
func readManifest(t *target.Target, maps []process.Mapping, rings process.Mapping) (*manifest, error) {
	head := make([]byte, len(magic)+8)
	if err := t.Proc.ReadMem(rings.Start, head); err != nil {
		return nil, err
	}
	code, err := parseHeader(head)
	if err != nil {
		// Killed before it had written what it was: nothing leads to the code yet, and
		// where that is is not known.
		return onlyRings(rings), nil
	}
	if isFree(maps, code) { // killed before it was mapped, or after it was unmapped
		return onlyRings(rings), nil
	}
	if !isCode(maps, code) {
		return nil, fmt.Errorf("%w: no code at %#x", errManifest, code)
	}
	pages := make([]byte, manifestPages*pageSize)
	if err := t.Proc.ReadMem(code, pages); err != nil {
		return nil, err
	}
	m, err := decodeManifest(pages)
	if err != nil {
		return nil, err
	}
	m.Code, m.Rings, m.RingsLen = code, rings.Start, rings.End-rings.Start
	for _, e := range m.Hooks {
		if len(e.Orig) == 0 || len(e.Orig) != len(e.Patch) || len(e.Orig) > 2*pageSize {
			return nil, errManifest
		}
		file, err := t.Bin.CodeAt(e.At-t.Bias, len(e.Orig))
		if err != nil || !bytes.Equal(file, e.Orig) {
			return nil, fmt.Errorf("%w: not the code of this binary at %#x", errManifest, e.At)
		}
	}
	for _, s := range m.Spans {
		if lo, hi := t.Bin.Text(); s[2]-t.Bias < lo || s[2]-t.Bias >= hi {
			if s[2] < code || s[2] >= code+codeBytes {
				return nil, fmt.Errorf("%w: a thread would go to %#x", errManifest, s[2])
			}
		}
	}
	return m, nil
}

// isCode says whether there is a mapping as place makes it, which the kernel may have
// joined with another of its kind.
func isCode(maps []process.Mapping, at uint64) bool {
	for _, m := range maps {
		if m.Start <= at && at+controlOffset <= m.End {
			return m.Exec && !m.Write && !m.Shared && m.Path == ""
		}
	}
	return false
}

// isFree says whether nothing is mapped where the code would be.
func isFree(maps []process.Mapping, at uint64) bool {
	for _, m := range maps {
		if m.Start < at+codeBytes && m.End > at {
			return false
		}
	}
	return true
}

// onlyRings is what there is when the rings' first page is empty.
func onlyRings(rings process.Mapping) *manifest {
	return &manifest{Rings: rings.Start, RingsLen: rings.End - rings.Start}
}
