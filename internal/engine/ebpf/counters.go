package ebpf

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/cilium/ebpf"
)

// counters are those of the programs, which count on each CPU by itself.
type counters struct {
	memory io.ReaderAt
	cpus   int
}

// setCounters makes room for every CPU that the kernel could have.
func setCounters(spec *ebpf.CollectionSpec) error {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return err
	}
	spec.Maps["counters"].MaxEntries = uint32(cpus) * uint32(gtraceCounterCOUNTER_ROW)
	return nil
}

// mapCounters gives the counters of programs that are loaded.
func mapCounters(kernel *ebpf.Map) (*counters, error) {
	memory, err := kernel.Memory()
	if err != nil {
		return nil, fmt.Errorf("map counters: %w", err)
	}
	return &counters{memory, int(kernel.MaxEntries()) / int(gtraceCounterCOUNTER_ROW)}, nil
}

// sum is a counter's sum over all CPUs.
func (c *counters) sum(which gtraceCounter) (sum uint64, err error) {
	var slot [8]byte
	for cpu := range c.cpus {
		at := (cpu*int(gtraceCounterCOUNTER_ROW) + int(which)) * len(slot)
		if _, err := c.memory.ReadAt(slot[:], int64(at)); err != nil {
			return 0, fmt.Errorf("read counters: %w", err)
		}
		sum += binary.NativeEndian.Uint64(slot[:])
	}
	return sum, nil
}
