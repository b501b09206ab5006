//go:build !go1.23

package work

// Coro does nothing before Go 1.23, which has no iter.Pull.
func Coro(int) {}
