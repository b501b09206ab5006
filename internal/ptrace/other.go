//go:build !amd64

package ptrace

import "time"

// ReturnsInto lists no thread here: nothing is injected on this architecture.
func (s *Stopped) ReturnsInto(pid int, r, text Range) []int { return nil }

// Inject is ErrArch here.
func Inject(pid int, g Gadgets, limit time.Duration, f func(*Remote) error) error { return ErrArch }

// InjectTraced is ErrArch here.
func InjectTraced(tid int, g Gadgets, limit time.Duration, f func(*Remote) error) error {
	return ErrArch
}

// ShadowStack is false here.
func ShadowStack(pid int) bool { return false }

// Syscall is ErrArch here.
func (r *Remote) Syscall(nr uintptr, args ...uint64) (uint64, error) { return 0, ErrArch }
