package perf

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestExplain wants each error of perf_event_open to be told apart, and to keep
// the kernel's own.
func TestExplain(t *testing.T) {
	for errno, want := range map[unix.Errno]error{
		unix.EACCES: ErrPermission, unix.EPERM: ErrPermission,
		unix.ENOSYS: ErrUnsupported, unix.ENODEV: ErrUnsupported, unix.EOPNOTSUPP: ErrUnsupported, unix.ENOENT: ErrUnsupported,
		unix.ESRCH: unix.ESRCH, unix.EMFILE: unix.EMFILE, unix.EINVAL: unix.EINVAL,
	} {
		err := explain(errno)
		if !errors.Is(err, want) || !errors.Is(err, errno) {
			t.Errorf("%v: %v", errno, err)
		}
		if errors.Is(err, ErrPermission) && errors.Is(err, ErrUnsupported) {
			t.Errorf("%v is both: %v", errno, err)
		}
	}
	for level, want := range map[string]string{
		"-1": "another user's", "2": "another user's", "3": "is 3; set it to 2", "4": "is 4; set it to 2",
	} {
		if got := advice(level); !strings.Contains(got, want) {
			t.Errorf("level %s: %s", level, got)
		}
	}
}
