package report

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"gopherscope/internal/elapsed"
	"gopherscope/internal/engine"
)

// Summary is the end of a trace: what was seen, what was not, what it cost.
type Summary struct {
	Engine     string
	GoVersion  string
	Duration   time.Duration
	Events     uint64 // changes seen, filtered ones included
	Violations uint64
	Goroutines uint64 // that were there before or had a change
	Seeded     uint64 // of these, how many were there before and come from a snapshot
	Lost       engine.Lost
	NoStack    engine.NoStack // events without the stack that was asked for
	Cost       engine.Cost
	TargetCPU  time.Duration // CPU time that the target used meanwhile; 0 if unknown
	Gaps       uint64        // pauses in which nothing was traced, to spare the target, and
	Paused     time.Duration // their time
}

// share is the cost as a share of the CPU time that the target used, which
// includes it; ok is false when that is unknown.
func (s *Summary) share() (v float64, ok bool) {
	if s.TargetCPU <= 0 {
		return 0, false
	}
	return min(1, float64(s.Cost.Total)/float64(s.TargetCPU)), true
}

// Text is the summary in a sentence or two, with no newline.
func (s *Summary) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s of %s in %s, %s, %s", plural(int(s.Events), "event"), plural(int(s.Goroutines), "goroutine"),
		elapsed.Text(s.Duration), lostText(s.Lost), plural(int(s.Violations), "violation"))
	if text := noStackText(s.NoStack); text != "" {
		b.WriteString("; " + text)
	}
	if s.Gaps > 0 {
		fmt.Fprintf(&b, "; paused %s, for %s, to spare the target", plural(int(s.Gaps), "time"), elapsed.Text(s.Paused))
	}
	if cost := s.costText(); cost != "" {
		b.WriteString("; cost the target " + cost)
	}
	return b.String()
}

// noStackText says of how many events the stack is missing and why; "" if of none.
func noStackText(n engine.NoStack) string {
	if n.Total() == 0 {
		return ""
	}
	text := fmt.Sprintf("%d without their stack (%d for too many stacks, %d not readable", n.Total(), n.Full, n.Unread)
	if n.Budget > 0 {
		text += fmt.Sprintf(", %d to spare the target", n.Budget)
	}
	return text + ")"
}

// costText says what the trace cost the target; "" if that was not measured.
func (s *Summary) costText() string {
	if s.Cost.NsPerUprobe == 0 && s.Cost.NsPerSyscall == 0 && s.Cost.NsPerInline == 0 {
		return ""
	}
	text := "about " + elapsed.Text(s.Cost.Total) + " of CPU"
	if share, ok := s.share(); ok {
		text += fmt.Sprintf(", %.1f %% of what it used", 100*share)
	}
	return text
}

func lostText(l engine.Lost) string {
	if l.Total() == 0 {
		return "0 lost"
	}
	var causes []string
	for _, c := range []struct {
		n    uint64
		text string
	}{
		{l.RingFull, "ring full"},
		{l.ReadFault, "memory not readable"},
		{l.Recursion, "skipped by the kernel"},
		{l.Processes, "too many processes"},
		{l.NoRing, "too many threads"},
		{l.Corrupt, "overwritten by the target"},
	} {
		if c.n > 0 {
			causes = append(causes, fmt.Sprintf("%d %s", c.n, c.text))
		}
	}
	return fmt.Sprintf("%d lost (%s)", l.Total(), strings.Join(causes, ", "))
}

// jsonSummary is the summary's JSON form; the order of the keys is the order in
// the line.
type jsonSummary struct {
	Type       string   `json:"type"`
	Engine     string   `json:"engine"`
	GoVersion  jsonName `json:"go_version"`
	DurationNs int64    `json:"duration_ns"`
	Events     uint64   `json:"events"`
	Lost       jsonLost `json:"lost"`
	NoStack    noStack  `json:"no_stack,omitzero"`
	Violations uint64   `json:"violations"`
	Goroutines uint64   `json:"goroutines"`
	Seeded     uint64   `json:"snapshot_goroutines"`
	Gaps       uint64   `json:"gaps"`
	PausedNs   int64    `json:"paused_ns"`
	Cost       jsonCost `json:"cost"`
}

type jsonLost struct {
	Total     uint64 `json:"total"`
	RingFull  uint64 `json:"ring_full"`
	ReadFault uint64 `json:"read_fault"`
	Recursion uint64 `json:"recursion"`
	Processes uint64 `json:"processes"`
	NoRing    uint64 `json:"no_ring"`
	Corrupt   uint64 `json:"corrupt"`
}

type noStack struct {
	Full   uint64 `json:"full"`
	Unread uint64 `json:"unread"`
	Budget uint64 `json:"budget"`
}

type jsonCost struct {
	UprobeHits   uint64   `json:"uprobe_hits"`
	SyscallHits  uint64   `json:"syscall_hits"`
	InlineHits   uint64   `json:"inline_hits"`
	NsPerUprobe  int64    `json:"ns_per_uprobe_hit"`
	NsPerSyscall int64    `json:"ns_per_syscall_hit"`
	NsPerInline  float64  `json:"ns_per_inline_hit"`
	Stacks       uint64   `json:"stacks,omitempty"`
	NsPerStack   float64  `json:"ns_per_stack,omitempty"`
	TotalNs      int64    `json:"total_ns"`
	TargetCPUNs  int64    `json:"target_cpu_ns"`
	Share        *float64 `json:"share"` // null when the target's CPU time is unknown
}

// JSON is the summary as one JSON object, with no newline.
func (s *Summary) JSON() ([]byte, error) {
	j := jsonSummary{
		Type: "summary", Engine: s.Engine, GoVersion: jsonName(s.GoVersion), DurationNs: int64(s.Duration),
		Events: s.Events, Violations: s.Violations, Goroutines: s.Goroutines, Seeded: s.Seeded,
		Gaps: s.Gaps, PausedNs: int64(s.Paused),
		NoStack: noStack(s.NoStack),
		Lost:    s.jsonLost(), Cost: s.jsonCost(),
	}
	return json.Marshal(j)
}

func (s *Summary) jsonLost() jsonLost {
	l := s.Lost
	return jsonLost{l.Total(), l.RingFull, l.ReadFault, l.Recursion, l.Processes, l.NoRing, l.Corrupt}
}

func (s *Summary) jsonCost() jsonCost {
	c := s.Cost
	j := jsonCost{
		UprobeHits: c.Hits.Uprobes, SyscallHits: c.Hits.Syscalls, InlineHits: c.Hits.Inline,
		NsPerUprobe: int64(c.NsPerUprobe), NsPerSyscall: int64(c.NsPerSyscall), NsPerInline: c.NsPerInline,
		Stacks: c.Hits.Stacks, NsPerStack: c.NsPerStack,
		TotalNs: int64(c.Total), TargetCPUNs: int64(s.TargetCPU),
	}
	if share, ok := s.share(); ok {
		j.Share = &share
	}
	return j
}
