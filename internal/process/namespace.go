package process

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// initPIDNamespace is the inode number of the first PID namespace's file
// (include/linux/proc_ns.h, PROC_PID_INIT_INO).
const initPIDNamespace = 0xEFFFFFFC

// NSTID is the number that the thread tid has in its own, innermost PID
// namespace: the one that the process itself knows it by. tid is a number of
// this process's namespace.
func (p *Process) NSTID(tid int) (int, error) {
	status, err := p.read(fmt.Sprintf("task/%d/status", tid))
	if err != nil {
		return 0, err
	}
	line, _ := statusField(status, "NSpid") // outermost first
	ids := strings.Fields(line)
	if len(ids) == 0 {
		return 0, p.fail(fmt.Errorf("thread %d: status has no NSpid", tid))
	}
	id, err := strconv.Atoi(ids[len(ids)-1])
	if err != nil {
		return 0, p.fail(fmt.Errorf("thread %d: parse NSpid: %w", tid, err))
	}
	return id, nil
}

// InOtherPIDNS tells whether the process lives in another PID namespace than
// this one.
func (p *Process) InOtherPIDNS() (bool, error) { return p.inOther("pid") }

// InOtherMountNS tells whether the process sees other file systems than this
// one: its paths are not ours.
func (p *Process) InOtherMountNS() (bool, error) { return p.inOther("mnt") }

func (p *Process) inOther(kind string) (bool, error) {
	own, err := fileID("/proc/self/ns/" + kind)
	if err != nil {
		return false, err
	}
	theirs, err := fileID(p.path("ns/" + kind))
	if err := p.verify(err); err != nil {
		return false, err
	}
	return own != theirs, nil
}

// PIDNamespace identifies a PID namespace as the BPF helper
// bpf_get_ns_current_pid_tgid takes it.
type PIDNamespace struct {
	Dev, Inode uint64 // Dev in the kernel's own encoding of dev_t
	Initial    bool   // the first one, in which the kernel's own numbers count
}

// SelfPIDNS is the PID namespace of this process, the one all PIDs and thread
// numbers in this package are of.
func SelfPIDNS() (PIDNamespace, error) {
	id, err := fileID("/proc/self/ns/pid")
	if err != nil {
		return PIDNamespace{}, fmt.Errorf("own PID namespace: %w", err)
	}
	// stat(2) reports a device number in the encoding for user space, and the
	// helper compares it with the kernel's (fs/nsfs.c, ns_match;
	// include/linux/kdev_t.h, MKDEV).
	dev := uint64(unix.Major(id.Dev))<<20 | uint64(unix.Minor(id.Dev))
	return PIDNamespace{Dev: dev, Inode: id.Inode, Initial: id.Inode == initPIDNamespace}, nil
}
