// Package leaks looks for goroutines that seem to be abandoned, by comparing
// snapshots of one process over a time. It gives evidence, not proof: only the
// program's author knows which goroutines were meant to end.
//
// It is pure: functions of dump.Dump values. A [Watch] takes the Dumps one after
// the other and keeps of each goroutine 40 bytes, not the Dump.
//
// # What tells a leak
//
// Goroutines are judged by creation site, the go statement. What sites of healthy
// goroutines have in common is that the number of goroutines finds its level:
// workers are made once, connections and requests come and go. So a site is
// suspect of growing only if
//
//   - goroutines that last (were seen in two snapshots at least, which leaves out
//     the many that are only passing) become more in most intervals, also in the
//     last ones: a pool that grows once does not;
//   - few of those that last go away again: connections do;
//   - and the growth is more than chance: it exceeds twice the spread that coming
//     and going at random would have.
//
// That says nothing of what they do in the meantime, so goroutines that loop,
// sleep or wait for a timer are found as well as those that are blocked.
//
// A number that does not grow is suspect only if it is large and not one of the
// goroutines has moved. Whether one has is told by its stack and by g.trackingSeq,
// which the runtime counts up whenever it stops running. g.waitsince is set by
// garbage collection only, so that its absence says nothing.
package leaks

import (
	"time"

	"gopherscope/internal/dump"
	"gopherscope/internal/goruntime"
)

// Grade is how sure it is that a site leaks.
type Grade uint8

// The grades, in ascending order of certainty.
const (
	None    Grade = iota // nothing speaks for a leak
	Stuck                // many goroutines, and none of them moves
	Growing              // ever more of them, which do not go away
	Forever              // blocked on what nothing can end: a nil channel, a select without cases
	Leaked               // the runtime itself found that nothing can wake them
)

var gradeNames = [...]string{
	None: "no sign of a leak", Stuck: "stuck", Growing: "growing",
	Forever: "blocked for ever", Leaked: "leaked (the runtime says so)",
}

// String is the grade in words.
func (g Grade) String() string { return gradeNames[g] }

var gradeKeys = [...]string{
	None: "none", Stuck: "stuck", Growing: "growing", Forever: "blocked_forever", Leaked: "leaked",
}

// Key is the grade as JSON spells it.
func (g Grade) Key() string { return gradeKeys[g] }

// Report is what a Watch saw.
type Report struct {
	PID       int
	Version   goruntime.Version
	Start     time.Time     // of the first snapshot
	Period    time.Duration // from the first snapshot to the last
	Snapshots int
	// Growth says that there were enough snapshots to tell whether a number grows.
	Growth     bool
	Goroutines int    // in the last snapshot, without the runtime's own
	Torn       int    // of them, those that never held still
	Sites      []Site // those with goroutines in the last snapshot: the most certain first, then by count
}

// Site is a go statement, or for goroutines whose creator is unknown the function
// that they start at, with the goroutines that it created.
type Site struct {
	Grade    Grade
	Evidence []string // what speaks for a leak, the strongest first; sentences. None if nothing does

	Created dump.Site // the go statement; zero if unknown
	Start   dump.Site // the function that most of them began at

	Count  int   // goroutines in the last snapshot
	Counts []int // and in each, in order of time
	New    int   // seen in a snapshot and not in the one before, in all
	Gone   int   // seen in a snapshot and not in the one after, in all
	// PerMinute is by how much Count grows in a minute; 0 with one snapshot.
	PerMinute float64

	Unmoved int // goroutines of the first snapshot that are in the very same wait in the last
	Leaked  int // found to be leaked by the runtime
	Forever int // blocked for ever by definition
	Stuck   int // that have the common stack and have been in the same wait for StuckTime

	// Unreferenced is how many wait on objects that no other goroutine's stack and
	// no variable refers to (dump.VerdictUnreferenced); 0 if it is not known.
	Unreferenced int

	Oldest  time.Duration // for how long the oldest exists at least
	Waiting time.Duration // for how long one has been in the same wait at least

	States     []dump.StateCount // the most frequent first
	Stack      dump.Stack        // the most frequent; empty if there is none
	StackCount int               // how many have it
	GoIDs      []uint64          // the lowest numbers of those that have it, at most MaxGoIDs
}

// Net is by how much the number of goroutines has grown.
func (s *Site) Net() int { return s.Count - s.Counts[0] }

// Suspects is how many of the sites are suspect, and how many goroutines they
// have.
func (r *Report) Suspects() (sites, goroutines int) {
	for i := range r.Sites {
		if r.Sites[i].Grade != None {
			sites++
			goroutines += r.Sites[i].Count
		}
	}
	return sites, goroutines
}

const (
	// MaxGoIDs is how many goroutines a Site names.
	MaxGoIDs = 10
	// StuckTime is how long a goroutine must have been in the same wait to count
	// as stuck.
	StuckTime = 20 * time.Second
	// StuckCount is how many must be stuck for their site to be suspect.
	StuckCount = 100
)
