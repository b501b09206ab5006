package ebpf

import (
	"errors"
	"fmt"
	"math"
	"os"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"gopherscope/internal/engine/probes"
	"gopherscope/internal/target"
)

// links are the attachments of a trace.
type links []link.Link

// Close detaches them all, in parallel: taking a uprobe away waits for the
// kernel to have finished with it on every CPU.
func (l *links) Close() error {
	errs := make([]error, len(*l))
	var wg sync.WaitGroup
	for i, one := range *l {
		wg.Go(func() { errs[i] = one.Close() })
	}
	wg.Wait()
	*l = nil
	return errors.Join(errs...)
}

// attach puts the programs in the target in place. What it attached before an error
// stays in l for Close.
func (l *links) attach(objs *objects, t *target.Target, file *os.File, sites []probes.Site, multi bool) error {
	pid := 0
	if t.Proc != nil {
		pid = t.Proc.PID()
	}
	exe, err := link.OpenExecutable(fmt.Sprintf("/proc/self/fd/%d", file.Fd()))
	if err != nil {
		return fmt.Errorf("open executable: %w", err)
	}
	progs := [probes.Programs]*ebpf.Program{probes.OnCas: objs.OnCas, probes.OnBirth: objs.OnBirth, probes.OnSelf: objs.OnSelf, probes.OnSwitch: objs.OnSwitch}
	for which, prog := range progs {
		if err := l.attachUprobes(exe, t, prog, probes.Program(which), sites, pid, multi); err != nil {
			return err
		}
	}
	return nil
}

// cookie is what a program learns at the site with this index: COOKIE_… in
// bpf/event.h.
func cookie(s *probes.Site, index int) uint64 {
	flags := s.Flags
	if s.Parks() {
		flags |= siteParks
	}
	return uint64(index) | uint64(s.From)<<8 | uint64(s.To)<<16 | uint64(flags)<<24 | s.PC<<32
}

// siteParks is SITE_PARKS of bpf/event.h, after the flags that all engines have.
const siteParks probes.Flags = 16

// attachUprobes attaches one program to its sites.
func (l *links) attachUprobes(exe *link.Executable, t *target.Target, prog *ebpf.Program, which probes.Program, sites []probes.Site, pid int, multi bool) error {
	var offsets, cookies []uint64
	for i := range sites {
		s := &sites[i]
		if s.Prog != which {
			continue
		}
		off, ok := t.Bin.FileOffset(s.PC)
		if !ok {
			return fmt.Errorf("probe site %s+%#x is not in the file", s.Func, s.PC)
		}
		if multi {
			offsets, cookies = append(offsets, off), append(cookies, cookie(s, i))
			continue
		}
		got, err := exe.Uprobe(s.Func, prog, &link.UprobeOptions{Address: off, PID: pid, Cookie: cookie(s, i)})
		if err != nil {
			return fmt.Errorf("attach %s: %w", s.Func, err)
		}
		*l = append(*l, got)
	}
	if len(offsets) == 0 {
		return nil
	}
	got, err := exe.UprobeMulti(nil, prog, &link.UprobeMultiOptions{Addresses: offsets, Cookies: cookies, PID: uint32(pid)})
	if err != nil {
		return fmt.Errorf("attach %d sites: %w", len(offsets), err)
	}
	*l = append(*l, got)
	return nil
}

// haveUprobeMulti says whether the kernel can attach many uprobes through one
// link (Linux 6.6) and filter them by process. The first kernels with such
// links filtered by thread, which would miss most of a Go program. The fix
// (kernel/trace/bpf_trace.c bpf_uprobe_multi_link_attach, Linux 6.10 and stable
// releases before it) also made a negative PID an EINVAL, where it used to be
// looked up and not found.
func haveUprobeMulti() bool {
	detach, err := probeSelf(true)
	if err != nil || detach() != nil {
		return false
	}
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type:          ebpf.Kprobe,
		AttachType:    ebpf.AttachTraceUprobeMulti,
		Instructions:  asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
		License:       "MIT",
		KernelVersion: anyKernel,
	})
	if err != nil {
		return false
	}
	defer prog.Close()
	exe, err := link.OpenExecutable("/proc/self/exe")
	if err != nil {
		return false
	}
	got, err := exe.UprobeMulti(nil, prog, &link.UprobeMultiOptions{Addresses: []uint64{1}, PID: math.MaxUint32})
	if err == nil {
		got.Close()
	}
	return errors.Is(err, unix.EINVAL)
}

// maySleep says whether the kernel takes programs of uprobes that may sleep (Linux 6.0): those
// wait for a page of the target's that is not in memory just now. Without, the change is lost
// and counted.
func maySleep(multi bool) bool {
	spec := &ebpf.ProgramSpec{
		Type:          ebpf.Kprobe,
		Instructions:  asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
		License:       "MIT",
		Flags:         unix.BPF_F_SLEEPABLE,
		KernelVersion: anyKernel,
	}
	if multi {
		spec.AttachType = ebpf.AttachTraceUprobeMulti
	}
	prog, err := ebpf.NewProgram(spec)
	if err != nil {
		return false
	}
	return prog.Close() == nil
}
