package process

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// Resident is how much memory the process holds at most, in RAM and swapped out, in bytes:
// none of its data structures can be larger. The kernel counts on each CPU and
// adds that up only now and then (lib/percpu_counter.c; mm_struct.rss_stat since Linux
// 6.2), so that VmRSS in /proc/PID/status can be too low by what is allowed for here.
func (p *Process) Resident() (uint64, error) {
	status, err := p.read("status")
	if err != nil {
		return 0, err
	}
	var sum uint64
	for _, name := range []string{"VmRSS", "VmSwap"} {
		line, ok := statusField(status, name)
		kb, unit := strings.CutSuffix(line, " kB")
		n, err := strconv.ParseUint(strings.TrimSpace(kb), 10, 54)
		if !ok || !unit || err != nil {
			return 0, p.fail(errors.Join(fmt.Errorf("parse status: %s %q", name, line), err))
		}
		sum += n << 10
	}
	return sum + uncounted(runtime.NumCPU()), nil
}

// uncounted is by how much the counters of file, anonymous and shared pages and of swap
// can be behind, on a machine of which this process may use n CPUs: each by a batch of
// pages for each CPU (lib/percpu_counter.c, compute_batch_value). There can be more CPUs
// than those.
func uncounted(n int) uint64 {
	const counters = 4
	n = max(64, 2*n)
	return counters * uint64(max(32, 2*n)) * uint64(n) * uint64(os.Getpagesize())
}
