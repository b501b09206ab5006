package event

// Via names the path of the runtime through which a goroutine's status
// changed. It says who or what is behind a change where no goroutine is.
type Via uint8

// The paths. The comment of each gives the runtime function that makes the
// change (Go 1.18 to 1.27; runtime/proc.go where no file is given).
const (
	ViaOther     Via = iota // any function without a name below
	ViaCreate               // newproc1: a go statement
	ViaSchedule             // execute: picked to run
	ViaPark                 // park_m: gopark
	ViaUnpark               // park_m: the wait ended before it began
	ViaReady                // ready: another goroutine, or a timer, made it runnable
	ViaTimer                // ready, from a timer: the end of a time.Sleep
	ViaNetpoll              // findRunnable, injectglist: the network poller
	ViaGC                   // the garbage collector's own goroutines and pauses
	ViaYield                // gosched_m, goyield_m: gave up its P
	ViaPreempt              // gopreempt_m: was told to give up its P
	ViaExit                 // gdestroy (goexit0 before Go 1.22)
	ViaSyscall              // entering and leaving a system call
	ViaNoP                  // exitsyscall0, exitsyscallNoP: lost its P in the system call
	ViaCgo                  // cgocall, cgocallbackg: entering and leaving C code
	ViaExtraM               // needm, dropm: a C thread borrows or gives back a goroutine
	ViaCoroutine            // coroswitch_m, newcoro: iter.Pull
	ViaSuspend              // preemptPark, suspendG: stopped for a stack scan
	ViaSTW                  // stopTheWorld, forEachP and the like: waits on its M
)

var viaNames = [...]string{
	ViaOther: "runtime", ViaCreate: "create", ViaSchedule: "schedule", ViaPark: "park",
	ViaUnpark: "unpark", ViaReady: "ready", ViaTimer: "timer", ViaNetpoll: "netpoll", ViaGC: "gc",
	ViaYield: "yield", ViaPreempt: "preempt", ViaExit: "exit", ViaSyscall: "syscall",
	ViaNoP: "no-p", ViaCgo: "cgo", ViaExtraM: "extra-m", ViaCoroutine: "coroutine",
	ViaSuspend: "suspend", ViaSTW: "stw",
}

// String is the path's name as JSON and the text form spell it.
func (v Via) String() string {
	if int(v) < len(viaNames) {
		return viaNames[v]
	}
	return viaNames[ViaOther]
}
