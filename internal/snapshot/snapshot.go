// Package snapshot reads all goroutines of a Go program at one moment: out of
// the memory of a live process, which is neither stopped nor touched, or of a
// core file. It needs no probe and no BPF; the permission to ptrace the process
// is enough.
//
// # How a moving target is read
//
// The process runs on while its memory is read, so nothing that takes two reads
// need ever have been true. Each goroutine is therefore read like this, within
// one system call, whose pieces the kernel copies one after the other:
//
//	g struct, stack, stack again, g struct again
//
// and the result counts only if both copies of the g struct agree in all that
// says where the goroutine is (status, goid, wait reason, where its stack lies,
// where it will go on) and in g.trackingSeq, which the runtime increments each
// time that casgstatus takes a goroutine out of running (runtime/proc.go); and if
// both copies of the stack are equal. The counter has 8 bits, so it alone could be
// back at the same value; but a stack that changes under the first copy is told
// by the second. A goroutine that does not pass is read again, and after many
// attempts is counted as torn and gets no stack.
//
// Two ways past the counter have witnesses of their own. System calls from Go 1.26
// on: m.syscalltick, which differs from one call to the next, is read before and
// after the stack. Coroutine switches count nowhere: there each return address
// must follow a call of the frame's own function, which tells a stack that has the
// frames of one moment and the return addresses of another.
//
// The goroutines of one snapshot are read one after the other, so it is no
// single moment of the whole process: each goroutine was as shown at some moment
// between the start and the end of the reading.
//
// # Stacks
//
// A stack is walked as the runtime does it, by the tables of stack pointer
// deltas, and must end at a function that stacks begin with. The chain of frame
// pointers is followed along with it and compared.
//
// Nothing in the memory is trusted: lengths are bounded, cycles end.
package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gopherscope/internal/dump"
	"gopherscope/internal/process"
	"gopherscope/internal/target"
)

// Options are the choices that a snapshot has; nil means the defaults.
type Options struct {
	// Stacks asks for the stacks; without them a snapshot takes a quarter of
	// the time.
	Stacks bool
	// Sampler takes the stacks of running goroutines; nil leaves them without.
	Sampler Sampler
	// Clock gives the program's CLOCK_MONOTONIC, ns; nil where it is not known,
	// as for a core file.
	Clock func() (int64, error)
	// Memory saves a program that takes many snapshots the cost of fresh memory for
	// each; nil is fresh memory. It is for one snapshot at a time.
	Memory *Memory
}

// Memory is what a snapshot reads to, kept for the next one.
type Memory struct {
	gs    [2][]byte
	batch []byte
}

// A Sampler takes the registers and the stacks of running threads.
type Sampler interface {
	// Sample returns at most one Sample for each of the threads; a thread that
	// did not run meanwhile has none.
	Sample(tids []int) ([]Sample, error)
}

// A Sample is what a thread was doing at one moment. Its memory is of that very
// moment.
type Sample struct {
	PID    int // of the process that the thread was of; 0 for a core file
	TID    int
	PC, SP uint64
	BP, G  uint64 // the registers that Go keeps the frame pointer and the current g in
	LR     uint64 // the link register; 0 where there is none (amd64)
	Stack  []byte // from SP up
	Core   bool   // from a core file
	// Saved says that the registers are those that the goroutine saved when it
	// left its stack for the thread's: PC is where it will return to.
	Saved bool
}

// chunkSize is the number of goroutines that are read together.
const chunkSize = 4096

// Take reads all goroutines of t, which must have a memory. When the process
// ends or executes another program half-way, or ctx ends, the Dump has what was
// read before, and the error says so. Take does not keep t.
func Take(ctx context.Context, t *target.Target, opts *Options) (*dump.Dump, error) {
	if opts == nil {
		opts = &Options{}
	}
	r, err := newReader(t, opts)
	if err != nil {
		return nil, err
	}
	addrs, err := r.allgs()
	if err != nil {
		return nil, err
	}
	slices.Sort(addrs)
	addrs = slices.Compact(addrs)
	r.d.Goroutines = make([]dump.Goroutine, 0, len(addrs))
	for chunk := range slices.Chunk(addrs, chunkSize) {
		if err = ctx.Err(); err != nil {
			break
		}
		if err = r.chunk(ctx, chunk); err != nil {
			break
		}
	}
	if err == nil {
		err = r.running(ctx)
	}
	return r.finish(err)
}

// finish puts the Dump in order, and qualifies the error that ended the reading.
func (r *reader) finish(err error) (*dump.Dump, error) {
	d := r.d
	if m := r.opts.Memory; m != nil {
		m.gs, m.batch = r.gs, r.batch.mem
	}
	d.Took = time.Since(r.began)
	slices.SortFunc(d.Goroutines, func(a, b dump.Goroutine) int {
		switch {
		case a.ID < b.ID:
			return -1
		case a.ID > b.ID:
			return 1
		}
		return 0
	})
	d.Goroutines = slices.CompactFunc(d.Goroutines, func(a, b dump.Goroutine) bool { return a.ID == b.ID })
	d.Stacks, d.Sites, d.Labels = r.sym.stacks, r.sym.sites, r.labels.sets
	if err != nil {
		err = fmt.Errorf("read goroutines, %d so far: %w", len(d.Goroutines), err)
	}
	return d, err
}

// ends tells whether an error of reading memory ends the snapshot: the process
// is gone, or must not be read any more.
func ends(err error) bool {
	return errors.Is(err, process.ErrExited) || errors.Is(err, process.ErrExec) || errors.Is(err, process.ErrPermission)
}
