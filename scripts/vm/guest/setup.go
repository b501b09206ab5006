package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"gopherscope/scripts/vm/console"
)

// mounts are in the order in which they are made: later ones lie in earlier ones.
var mounts = []struct {
	kind, dir string
	optional  bool // not every kernel has it
}{
	{"proc", "/proc", false},
	{"sysfs", "/sys", false},
	{"devtmpfs", "/dev", false},
	{"tmpfs", "/tmp", false},
	{"tmpfs", "/dev/shm", false},
	{"devpts", "/dev/pts", false},
	{"tracefs", "/sys/kernel/tracing", false},
	{"securityfs", "/sys/kernel/security", true},
	{"bpf", "/sys/fs/bpf", false},
	{"cgroup2", "/sys/fs/cgroup", true},
}

// setUp makes the machine one that programs can run on.
func setUp() error {
	for _, m := range mounts {
		if err := os.MkdirAll(m.dir, 0o755); err != nil {
			return err
		}
		err := unix.Mount(m.kind, m.dir, m.kind, 0, "")
		if m.optional && (errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT)) {
			continue
		}
		if err != nil {
			return fmt.Errorf("mount %s: %w", m.dir, err)
		}
	}
	if err := os.Chmod("/tmp", 0o1777); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte("guest")); err != nil {
		return fmt.Errorf("set the host's name: %w", err)
	}
	if err := addCPUFlags(); err != nil {
		return err
	}
	return loopbackUp()
}

// addCPUFlags lays a file with more flags over /proc/cpuinfo, if the host wants some.
func addCPUFlags() error {
	flags, err := os.ReadFile(console.CPUFlagsPath)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	const real, changed = "/proc/cpuinfo", "/cpuinfo"
	text, err := os.ReadFile(real)
	if err != nil {
		return err
	}
	var out strings.Builder
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "flags") {
			line = strings.TrimSuffix(line, "\n") + " " + string(flags) + "\n"
		}
		out.WriteString(line)
	}
	if err := os.WriteFile(changed, []byte(out.String()), 0o444); err != nil {
		return err
	}
	if err := unix.Mount(changed, real, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("lay %s over %s: %w", changed, real, err)
	}
	return nil
}

// loopbackUp lets programs talk to 127.0.0.1 (netdevice(7)).
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("network: %w", err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("network: %w", err)
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("bring up the loopback interface: %w", err)
	}
	return nil
}

// warning is the least severe level of the kernel's log that is shown (syslog(2): 4 is
// KERN_WARNING; smaller is worse).
const warning = 4

// printKernelLog prints what the kernel logged as a warning or worse; the code is 0
// also when there is some: the host judges.
func printKernelLog() (code int, err error) {
	size, err := unix.Klogctl(unix.SYSLOG_ACTION_SIZE_BUFFER, nil)
	if err != nil {
		return -1, fmt.Errorf("size of the kernel's log: %w", err)
	}
	buf := make([]byte, size)
	n, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, buf)
	if err != nil {
		return -1, fmt.Errorf("read the kernel's log: %w", err)
	}
	for line := range strings.Lines(string(buf[:n])) {
		var level int
		if _, err := fmt.Sscanf(line, "<%d>", &level); err == nil && level&7 <= warning {
			fmt.Print(line)
		}
	}
	return 0, nil
}
