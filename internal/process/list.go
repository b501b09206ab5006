package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
)

// Entry is a process in a [List].
type Entry struct {
	PID int
	Exe FileID // its executable
}

// List lists the processes that run a program, in ascending order of PID, this
// one included. It looks at nothing but their executables, so that it is cheap
// on a host with thousands. Kernel threads and zombies are left out, and so
// are denied processes, those whose executable this process must not see. An
// Entry is what was there at some moment during the call.
func List() (entries []Entry, denied int, err error) {
	names, err := os.ReadDir("/proc")
	if err != nil {
		return nil, 0, fmt.Errorf("list processes: %w", err)
	}
	pids := make([]int, 0, len(names))
	for _, d := range names {
		if pid, err := strconv.Atoi(d.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	for _, pid := range pids {
		exe, err := fileID(fmt.Sprintf("/proc/%d/exe", pid))
		switch {
		case err == nil:
			entries = append(entries, Entry{PID: pid, Exe: exe})
		case errors.Is(err, fs.ErrPermission) && isProgram(pid):
			denied++
		}
	}
	return entries, denied, nil
}

// isProgram tells whether pid is a process that runs a program, as far as one
// can know without permission to see its executable.
func isProgram(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	st, err := parseStat(b)
	return err == nil && st.flags&flagKernelThread == 0 && st.state != 'Z' && st.state != 'X'
}
