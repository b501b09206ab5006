package process

import (
	"bytes"
	"fmt"
	"strconv"
)

// Bits of the flags in /proc/PID/stat (include/linux/sched.h, PF_EXITING and
// PF_KTHREAD).
const (
	flagExiting      = 0x4
	flagKernelThread = 0x200000
)

// stat is what /proc/PID/stat tells of the first thread of a process.
type stat struct {
	comm  string // as the kernel has it: any byte but NUL
	state byte   // proc(5): R, S, D, Z, T, t, X, I
	flags uint64
}

func (p *Process) stat() (stat, error) {
	b, err := p.read("stat")
	if err != nil {
		return stat{}, err
	}
	st, err := parseStat(b)
	if err != nil {
		return stat{}, p.fail(err)
	}
	return st, nil
}

// parseStat reads the text of /proc/PID/stat. The name of the program, in
// parentheses, may itself contain blanks and parentheses: the last one ends it.
func parseStat(b []byte) (stat, error) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return stat{}, fmt.Errorf("parse stat %q: no name", b)
	}
	// proc(5) counts from 1, and f[0] is field 3.
	f := bytes.Fields(b[end+1:])
	if len(f) < 7 {
		return stat{}, fmt.Errorf("parse stat %q: %d fields after the name", b, len(f))
	}
	flags, err := strconv.ParseUint(string(f[9-3]), 10, 64)
	if err != nil {
		return stat{}, fmt.Errorf("parse stat flags: %w", err)
	}
	return stat{comm: string(b[open+1 : end]), state: f[0][0], flags: flags}, nil
}
