package hard_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"gopherscope/internal/testenv"
	"gopherscope/test/traced"
)

// TestPagedOut: before each piece of work, all of the program's memory is paged out: the
// goroutines that wait and the thread in a system call have none. Each change is seen all the
// same, and those of the goroutine that reads the commands, in one system call after the other.
func TestPagedOut(t *testing.T) {
	const rounds, trips = 60, 5
	for _, e := range traced.Engines() {
		t.Run(string(e), func(t *testing.T) {
			s := start(t, nil)
			needSwap(t)
			sc := s.attachedTo(e)
			most := 0
			for range rounds {
				if err := pageOut(s.pid); err != nil {
					t.Fatal(err)
				}
				most = max(most, s.swapped())
				s.do(fmt.Sprintf("work %d", trips))
			}
			lines, sum := sc.end()
			whole(t, sum)
			for _, id := range []int64{s.ping, s.pong} {
				if n := chain(t, lines, s.pid, id); n < worked(rounds*trips) {
					t.Errorf("goroutine %d: %d changes", id, n)
				}
			}
			chain(t, lines, s.pid, 1)
			// The call that it was in when the trace began may end unseen: nobody saw who entered it.
			// Nor may the trace see it enter the last one, to read what comes next.
			if in, out := calls(lines, 1); e == traced.EBPF && (in < 2*rounds-1 || out < in-1 || out > in) {
				t.Errorf("%d system calls were entered and %d left, in %d rounds that read and write", in, out, rounds)
			}
			if t.Logf("%d kB were paged out", most); most < 300 {
				t.Errorf("%d kB were paged out", most)
			}
			s.finish()
		})
	}
}

// TestPagedOutMeanwhile: the program's memory is paged out again and again while it works, so
// that it is gone also at a change itself. The programs of uprobes wait for it, where the kernel
// lets them.
func TestPagedOutMeanwhile(t *testing.T) {
	s := start(t, nil)
	needSwap(t)
	sc := s.attachedTo(traced.EBPF)
	end, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		times := 0
		for err := error(nil); ; times++ {
			select {
			case <-end:
				t.Logf("paged out %d times", times)
				ended <- err
				return
			default:
				if err == nil {
					err = pageOut(s.pid)
				}
			}
		}
	}()
	trips := int(s.do("pace 15s"))
	close(end)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	lines, sum := sc.end()
	t.Logf("%d round trips", trips)
	whole(t, sum)
	for _, id := range []int64{s.ping, s.pong} {
		if n := chain(t, lines, s.pid, id); n < worked(trips) {
			t.Errorf("goroutine %d: %d changes", id, n)
		}
	}
	s.finish()
}

// calls are how many system calls a goroutine entered and left.
func calls(lines []line, goid int64) (in, out int) {
	for i := range lines {
		l := &lines[i]
		switch {
		case l.GoID != goid || l.Via != "syscall":
		case l.To == "syscall":
			in++
		case l.From == "syscall":
			out++
		}
	}
	return in, out
}

// pageOut takes all memory from a program that the kernel can bring back.
func pageOut(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return err
	}
	for text := range strings.Lines(string(maps)) {
		f := strings.Fields(text)
		if !strings.HasPrefix(f[1], "r") || len(f) > 5 && strings.HasPrefix(f[5], "[v") {
			continue // not there at all, or the kernel's own
		}
		from, to, _ := strings.Cut(f[0], "-")
		lo, errLo := strconv.ParseUint(from, 16, 64)
		hi, errHi := strconv.ParseUint(to, 16, 64)
		if errLo != nil || errHi != nil {
			return fmt.Errorf("a mapping of %q", text)
		}
		// unix.Iovec has a pointer of this process.
		iov := struct{ base, len uint64 }{lo, hi - lo}
		// Where the program has just unmapped something, it is no matter.
		_, _, errno := unix.Syscall6(unix.SYS_PROCESS_MADVISE, uintptr(fd), uintptr(unsafe.Pointer(&iov)), 1, unix.MADV_PAGEOUT, 0, 0)
		if errno != 0 && errno != unix.ENOMEM && errno != unix.EINVAL {
			return fmt.Errorf("page out %s: %w", text, errno)
		}
	}
	return nil
}

// swapped is how much of the program is swapped out, in kB: VmSwap of /proc/PID/status.
func (s *subject) swapped() int {
	s.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid))
	if err != nil {
		s.t.Fatal(err)
	}
	f := strings.Fields(string(status))
	i := slices.Index(f, "VmSwap:")
	if i < 0 || i+1 == len(f) {
		s.t.Fatalf("no VmSwap in\n%s", status)
	}
	n, err := strconv.Atoi(f[i+1])
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// needSwap wants the machine to have swap space, and gives it some for the test if it has
// none.
func needSwap(t *testing.T) {
	t.Helper()
	swaps, err := os.ReadFile("/proc/swaps")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(swaps), "\n") > 1 {
		return
	}
	const size = 64 << 20
	file := filepath.Join(t.TempDir(), "swap")
	// Written out: swap space may have no holes.
	if err := os.WriteFile(file, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range [][]string{{"mkswap", file}, {"swapon", file}} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			testenv.Missing(t, fmt.Sprintf("swap space: %v: %v\n%s", command, err, out))
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("swapoff", file).CombinedOutput(); err != nil {
			t.Errorf("swapoff: %v\n%s", err, out)
		}
	})
}
