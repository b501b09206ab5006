package ebpf

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// TestTooOld: what an old kernel answered is still to be found in the error.
func TestTooOld(t *testing.T) {
	err := tooOld("5.4.0-200-generic", unix.EPERM)
	if !errors.Is(err, ErrOldKernel) || !errors.Is(err, unix.EPERM) {
		t.Errorf("%#v", err)
	}
	if want := "the kernel is too old: Linux 5.4.0-200-generic, needs 5.15 or newer (operation not permitted)"; err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
}
