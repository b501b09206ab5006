//go:build !amd64

package inline

import "gopherscope/internal/ptrace"

// Here nothing is ever attached: see Start.

func putWord([]byte, uint64) {}

func programCounter(*ptrace.Thread) uint64 { return 0 }

func setProgramCounter(*ptrace.Thread, uint64) error { return ptrace.ErrArch }

func moveOut(*ptrace.Thread, place) error { return ptrace.ErrArch }
