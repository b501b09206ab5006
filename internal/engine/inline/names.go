package inline

import (
	"fmt"
	"time"

	"gopherscope/internal/process"
)

// threadNames finds the number of a thread in our PID namespace from the one that the
// process itself knows it by (m.procid).
type threadNames struct {
	proc  *process.Process
	pid   uint32
	same  bool              // both are the same
	known map[uint32]uint32 // by the process's own number
	next  time.Time         // when to list the threads again
}

func newThreadNames(p *process.Process) (threadNames, error) {
	other, err := p.InOtherPIDNS()
	if err != nil {
		return threadNames{}, fmt.Errorf("PID namespace: %w", err)
	}
	return threadNames{proc: p, pid: uint32(p.PID()), same: !other, known: map[uint32]uint32{}}, nil
}

// listEvery bounds how often the threads are listed for a number that is not known.
const listEvery = 10 * time.Millisecond

// of is the number of a thread. 0 is one that has not noted its own yet: the first
// thread while the runtime starts. 0 is also returned for one that has ended before it
// could be found.
func (n *threadNames) of(tid uint32, m int64) uint32 {
	switch {
	case tid == 0 && m == 0:
		return n.pid
	case n.same || tid == 0:
		return tid
	}
	if ours, ok := n.known[tid]; ok {
		return ours
	}
	if now := time.Now(); now.After(n.next) {
		n.next = now.Add(listEvery)
		n.list()
	}
	return n.known[tid]
}

func (n *threadNames) list() {
	tids, err := n.proc.Threads()
	if err != nil {
		return
	}
	clear(n.known)
	for _, tid := range tids {
		if theirs, err := n.proc.NSTID(tid); err == nil {
			n.known[uint32(theirs)] = uint32(tid)
		}
	}
}

// alive says which of the process's own numbers are those of its threads.
func (n *threadNames) alive() (func(tid uint32) bool, error) {
	tids, err := n.proc.Threads()
	if err != nil {
		return nil, err
	}
	there := map[uint32]bool{}
	for _, tid := range tids {
		theirs := tid
		if !n.same {
			if theirs, err = n.proc.NSTID(tid); err != nil {
				continue // it has just ended
			}
		}
		there[uint32(theirs)] = true
	}
	return func(tid uint32) bool { return there[tid] }, nil
}
