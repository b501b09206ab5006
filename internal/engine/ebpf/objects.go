package ebpf

import (
	"errors"

	"github.com/cilium/ebpf"
)

// objects is what is loaded of the embedded object.
type objects struct {
	gtraceMaps
	gtraceVariables

	OnCas    *ebpf.Program `ebpf:"on_cas"`
	OnBirth  *ebpf.Program `ebpf:"on_birth"`
	OnSelf   *ebpf.Program `ebpf:"on_self"`
	OnSwitch *ebpf.Program `ebpf:"on_switch"`

	// Either for raw tracepoints or for perf events: see perfEvents.choose.
	OnExec     *ebpf.Program `ebpf:"on_exec"`
	OnSysEnter *ebpf.Program `ebpf:"on_sys_enter"`
	OnSysExit  *ebpf.Program `ebpf:"on_sys_exit"`

	ReadStack *ebpf.Program `ebpf:"read_stack"`
}

// atUprobes are the programs in the target.
func (o *objects) atUprobes() []*ebpf.Program {
	return []*ebpf.Program{o.OnCas, o.OnBirth, o.OnSelf, o.OnSwitch}
}

// atTracepoints are the others, in the order of tracepoints.
func (o *objects) atTracepoints() []*ebpf.Program {
	return []*ebpf.Program{o.OnExec, o.OnSysEnter, o.OnSysExit}
}

// Close takes all out of the kernel that nothing is attached to.
func (o *objects) Close() error {
	errs := []error{o.gtraceMaps.Close(), o.ReadStack.Close()}
	for _, p := range append(o.atUprobes(), o.atTracepoints()...) {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}
