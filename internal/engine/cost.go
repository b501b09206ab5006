package engine

import "time"

// Cost is what tracing cost the target: hits times the measured cost of one.
// It is CPU time of the target's own threads.
type Cost struct {
	Hits         Hits
	NsPerUprobe  float64 // one uprobe hit: the trap and the program; 0 if not measured
	NsPerSyscall float64 // one tracepoint hit; 0 if not measured
	NsPerInline  float64 // one pass through code of ours; 0 if not measured
	Total        time.Duration
}

// NewCost multiplies hits by what one costs.
func NewCost(hits Hits, nsPerUprobe, nsPerSyscall float64) Cost {
	ns := float64(hits.Uprobes)*nsPerUprobe + float64(hits.Syscalls)*nsPerSyscall
	return Cost{Hits: hits, NsPerUprobe: nsPerUprobe, NsPerSyscall: nsPerSyscall, Total: time.Duration(ns)}
}
