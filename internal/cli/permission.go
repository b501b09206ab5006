package cli

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"gopherscope/internal/process"
)

// explainMemory adds the hint for a command that reads the memory of process pid.
// It needs no more than the permission to ptrace it: the hints about tracing do
// not apply.
func explainMemory(pid int, err error) error {
	switch {
	case errors.Is(err, process.ErrKernelThread):
		return withHint(err, "gopherscope ps lists the Go processes on this host")
	case errors.Is(err, process.ErrExited):
		return withHint(err, "nothing is left of the goroutines of a process that has ended; gopherscope ps lists those that run")
	case errors.Is(err, process.ErrExec):
		return withHint(err, "run the command again for the goroutines of the new program")
	case errors.Is(err, process.ErrPermission), errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return withHint(err, "%s", memoryHint(readAccess(pid)))
	}
	return err
}

// access is what decides whether one process may read another's memory
// (kernel/ptrace.c, __ptrace_may_access; security/yama/yama_lsm.c).
type access struct {
	own, theirs int    // effective user ids; theirs is -1 if /proc hides the process
	sysPtrace   bool   // this process has CAP_SYS_PTRACE
	undumpable  bool   // the process has made itself so, or its executable did
	yama        string // kernel.yama.ptrace_scope; "" where there is no Yama
}

// capSysPtrace is the number of CAP_SYS_PTRACE (include/uapi/linux/capability.h).
const capSysPtrace = 19

func readAccess(pid int) access {
	a := access{own: os.Geteuid(), theirs: -1}
	if text, err := os.ReadFile("/proc/self/status"); err == nil {
		if caps, err := strconv.ParseUint(statusWord(string(text), "CapEff", 0), 16, 64); err == nil {
			a.sysPtrace = caps&(1<<capSysPtrace) != 0
		}
	}
	if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)); err == nil {
		if uid, err := strconv.Atoi(statusWord(string(text), "Uid", 1)); err == nil {
			a.theirs = uid
		}
	}
	// The files in /proc of a process that is not dumpable are root's, whoever it
	// runs as (fs/proc/base.c, task_dump_owner).
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/stat", pid), &st); err == nil {
		a.undumpable = a.theirs > 0 && st.Uid == 0
	}
	if text, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope"); err == nil {
		a.yama = strings.TrimSpace(string(text))
	}
	return a
}

// statusWord is the word at index i of a line of /proc/PID/status.
func statusWord(text, name string, i int) string {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			if words := strings.Fields(rest); i < len(words) {
				return words[i]
			}
		}
	}
	return ""
}

// memoryHint says what to do about a memory that may not be read.
func memoryHint(a access) string {
	const capable = "as root, or with CAP_SYS_PTRACE (setcap cap_sys_ptrace=ep)"
	switch {
	case a.yama == "3":
		return "kernel.yama.ptrace_scope is 3: nobody may look into a process until the next boot; set it lower at boot"
	case a.sysPtrace:
		return "this process has CAP_SYS_PTRACE, but not in the user namespace of the other one, or a security policy (SELinux, AppArmor, seccomp) forbids it: run on the host, outside of any container"
	case a.own == 0:
		return "root has no CAP_SYS_PTRACE here, as in most containers: start the container with it (docker run --cap-add SYS_PTRACE), or run on the host"
	case a.theirs < 0:
		return "/proc hides the processes of other users (mount option hidepid): run " + capable
	case a.theirs != a.own:
		return fmt.Sprintf("the process is of the user with id %d, not %d: run as that user, %s", a.theirs, a.own, capable)
	case a.undumpable:
		return "the process may not be dumped: it called prctl(PR_SET_DUMPABLE), or its executable has capabilities, is setuid or cannot be read: run " + capable
	case a.yama == "1":
		return "kernel.yama.ptrace_scope is 1: only a process's ancestors may look into it: run " + capable + ", or allow it for all processes of one user: sysctl kernel.yama.ptrace_scope=0"
	case a.yama == "2":
		return "kernel.yama.ptrace_scope is 2: only root may look into a process: run " + capable + ", or sysctl kernel.yama.ptrace_scope=0"
	}
	return "run " + capable
}
