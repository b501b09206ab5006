package engine

import "time"

// Cost is what tracing cost the target: hits times the measured cost of one.
// It is CPU time of the target's own threads.
type Cost struct {
	Hits         Hits
	NsPerUprobe  float64 // one uprobe hit: the trap and the program; 0 if not measured
	NsPerSyscall float64 // one tracepoint hit; 0 if not measured
	NsPerInline  float64 // one pass through code of ours; 0 if not measured
	NsPerStack   float64 // what a stack adds to a hit, on average; 0 if not measured, or if there was none
	Total        time.Duration
}

// NewCost multiplies hits by what one costs, without its stack, and stacks by what one adds.
func NewCost(hits Hits, nsPerUprobe, nsPerSyscall, nsPerStack float64) Cost {
	ns := float64(hits.Uprobes)*nsPerUprobe + float64(hits.Syscalls)*nsPerSyscall + float64(hits.Stacks)*nsPerStack
	return Cost{Hits: hits, NsPerUprobe: nsPerUprobe, NsPerSyscall: nsPerSyscall, NsPerStack: nsPerStack, Total: time.Duration(ns)}
}

// OfStacks is what so many stacks cost.
func (c *Cost) OfStacks(n uint64) time.Duration { return time.Duration(float64(n) * c.NsPerStack) }
