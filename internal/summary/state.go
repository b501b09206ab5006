package summary

import "gopherscope/internal/goruntime"

// State is what a goroutine does, as a reader needs it: the runtime's statuses with
// fake waits as running (see goruntime.IsFakeWait), for they are. States do not overlap.
type State uint8

// The states of goroutines that are alive.
const (
	Running   State = iota // on a thread, also under a fake wait
	Runnable               // wants to run and queues for a P
	Syscall                // in a system call or in C code
	Waiting                // parked; also when the runtime found it leaked
	Preempted              // stopped so that its stack can be scanned
	Unknown                // an event was missed, or nothing was traced: any of these
	NumStates              // how many there are
)

// gone is the state of a goroutine that is not alive: the unused one of an extra M.
const gone = NumStates

var stateNames = [NumStates]string{"running", "runnable", "syscall", "waiting", "preempted", "unknown"}

// String is the state's name as JSON and tables spell it.
func (s State) String() string {
	if s < NumStates {
		return stateNames[s]
	}
	return "gone"
}

// stateOf is the state of a status; fake says that it is a fake wait.
func stateOf(s goruntime.Status, fake bool) State {
	switch s {
	case goruntime.Running, goruntime.CopyStack:
		return Running
	case goruntime.Runnable:
		return Runnable
	case goruntime.Syscall:
		return Syscall
	case goruntime.Waiting, goruntime.Leaked:
		if fake {
			return Running
		}
		return Waiting
	case goruntime.Preempted:
		return Preempted
	case goruntime.Idle, goruntime.Dead, goruntime.DeadExtra:
		return gone
	}
	return Unknown
}
