package goruntime

import (
	"fmt"
	"strings"
)

// Status is a goroutine's state as the runtime numbers it in g.atomicstatus
// (runtime/runtime2.go, _Gidle and following). The numbers are the same from
// Go 1.18 to 1.27. A Status never carries the scan bit: see [ScanBit].
type Status uint8

// The statuses, in the runtime's own order. Two numbers are unused by the
// runtime (5 and 7); Leaked and DeadExtra exist from Go 1.26 on.
const (
	Idle      Status = 0  // allocated, not yet initialised
	Runnable  Status = 1  // on a run queue, not running
	Running   Status = 2  // running Go code on an M with a P
	Syscall   Status = 3  // in a system call or in C code
	Waiting   Status = 4  // parked, see the wait reason
	Dead      Status = 6  // finished, or not yet started
	CopyStack Status = 8  // its stack is being moved
	Preempted Status = 9  // stopped itself for a suspendG
	Leaked    Status = 10 // found unreachable by a goroutine leak profile
	DeadExtra Status = 11 // the idle goroutine of an extra M (C threads calling Go)
)

// ScanBit is or-ed to a status in g.atomicstatus while the garbage collector
// scans the goroutine's stack (_Gscan). It is no state of its own.
const ScanBit = 0x1000

// statusNames has the upper-case name of each status, "" where a number is
// unused.
var statusNames = [...]string{
	Idle: "IDLE", Runnable: "RUNNABLE", Running: "RUNNING", Syscall: "SYSCALL",
	Waiting: "WAITING", Dead: "DEAD", CopyStack: "COPYSTACK", Preempted: "PREEMPTED",
	Leaked: "LEAKED", DeadExtra: "DEADEXTRA",
}

// lowerNames is statusNames as JSON and flags spell it.
var lowerNames = [...]string{
	Idle: "idle", Runnable: "runnable", Running: "running", Syscall: "syscall",
	Waiting: "waiting", Dead: "dead", CopyStack: "copystack", Preempted: "preempted",
	Leaked: "leaked", DeadExtra: "deadextra",
}

// Valid says whether s is a number that the runtime uses.
func (s Status) Valid() bool {
	return int(s) < len(statusNames) && statusNames[s] != ""
}

// Name is the status in lower case, as JSON and flags spell it: "runnable".
func (s Status) Name() string {
	if s.Valid() {
		return lowerNames[s]
	}
	return fmt.Sprintf("status%d", uint8(s))
}

// String is the status in upper case with its number: "RUNNABLE(1)".
func (s Status) String() string {
	if s.Valid() {
		return fmt.Sprintf("%s(%d)", statusNames[s], uint8(s))
	}
	return fmt.Sprintf("STATUS(%d)", uint8(s))
}

// ParseStatus is the inverse of [Status.Name]; it takes any case.
func ParseStatus(name string) (Status, error) {
	for s := range Status(len(lowerNames)) {
		if s.Valid() && strings.EqualFold(lowerNames[s], name) {
			return s, nil
		}
	}
	return 0, fmt.Errorf("unknown state %q (one of runnable, running, syscall, waiting, dead, preempted, leaked, deadextra)", name)
}
