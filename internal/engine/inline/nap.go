package inline

import (
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// nap sleeps, or ends early. It is for the one who drains, who does so a hundred times a
// second and more, and would with time.Sleep cost several times what its work does: the
// scheduler then lets another thread wait for the timer, wakes a third one to look for work
// when it fires, and its monitor (runtime/proc.go, sysmon) looks every 20 µs for processors to
// take from system calls.
//
// So the thread sleeps in the kernel and keeps its processor (P), without the runtime's knowing
// that it is in a system call. To stop the world, the runtime sends it a signal, which
// ends the sleep, as it does every 10 ms to what seems to run for long (Go 1.14,
// runtime/preempt.go). With one processor only, all others would have to wait.
func nap(d time.Duration) {
	if runtime.GOMAXPROCS(0) == 1 {
		time.Sleep(d)
		return
	}
	wait := unix.NsecToTimespec(int64(d))
	_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&wait)), 0, 0)
}
