package ebpf

import (
	"bytes"
	"fmt"
	"os"

	"gopherscope/internal/engine/probes"
	"gopherscope/internal/gobinary"
	"gopherscope/internal/target"
)

// Clean removes the breakpoints that a gopherscope left in t's process when it was killed
// while it attached or detached. found says that there were any, left how many are there
// still: those of whoever traces the process now. t must have a process.
//
// The kernel takes a uprobe away with its link, but not for a thread that has a SIGKILL
// pending: the page of the instruction is then not got at, and the uprobe is given up,
// breakpoint and all ("failed to unregister, leaking uprobe" in the kernel's log;
// kernel/events/uprobes.c, uprobe_unregister_nosync; mm/gup.c, __get_user_pages). The
// process goes on, with a trap for each pass. Who probes the same place next and leaves in
// order takes the breakpoint away: that is what Clean does, and every trace.
func Clean(t *target.Target) (found bool, left int, err error) {
	sites, err := probes.Plan(t.Bin)
	if err != nil {
		return false, 0, err
	}
	before, err := breakpoints(t, sites)
	if err != nil || before == 0 {
		return false, before, err
	}
	e, err := Start(t, &Options{RingBytes: os.Getpagesize()})
	if err != nil {
		return false, before, err
	}
	if err := e.Close(); err != nil {
		return false, before, err
	}
	left, err = breakpoints(t, sites)
	return left < before, left, err
}

// trapInstruction is what the kernel writes over a probed one: UPROBE_SWBP_INSN in
// arch/x86/include/asm/uprobes.h and, as BRK64_OPCODE_UPROBES, in arch/arm64.
func trapInstruction(arch gobinary.Arch) []byte {
	if arch == gobinary.ARM64 {
		return []byte{0xa0, 0x00, 0x20, 0xd4}
	}
	return []byte{0xcc}
}

// breakpoints counts the sites that have one in memory and not in the file.
func breakpoints(t *target.Target, sites []probes.Site) (n int, err error) {
	exe, err := os.Open(t.Proc.ExePath())
	if err != nil {
		return 0, fmt.Errorf("open executable: %w", err)
	}
	defer exe.Close()
	trap := trapInstruction(t.Bin.Arch())
	have, want := make([]byte, len(trap)), make([]byte, len(trap))
	for i := range sites {
		off, ok := t.Bin.FileOffset(sites[i].PC)
		if !ok {
			return 0, fmt.Errorf("probe site %s+%#x is not in the file", sites[i].Func, sites[i].PC)
		}
		if _, err := exe.ReadAt(want, int64(off)); err != nil {
			return 0, fmt.Errorf("read %s: %w", exe.Name(), err)
		}
		if err := t.Proc.ReadMem(sites[i].PC+t.Bias, have); err != nil {
			return 0, err
		}
		if bytes.Equal(have, trap) && !bytes.Equal(want, trap) {
			n++
		}
	}
	return n, nil
}
