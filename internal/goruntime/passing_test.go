package goruntime

import "testing"

func TestPassing(t *testing.T) {
	for fn, want := range map[string]bool{
		"runtime.gopark":                            true,
		"runtime/debug.FreeOSMemory":                true,
		"internal/poll.runtime_pollWait":            true,
		"internal/runtime/syscall/linux.Syscall6":   true,
		"sync.(*Mutex).Lock":                        true,
		"sync/atomic.AddInt64":                      true,
		"time.Sleep":                                true,
		"net.(*conn).Read":                          true,
		"net/http.(*conn).serve":                    false,
		"main.main":                                 false,
		"main.worker[...]":                          false,
		"example.com/a%2eb/c.Map[internal/x.T].Get": false,
		"iter.Pull[go.shape.int].func2":             true,
		"synchro.Wait":                              false,
		"internals.Run":                             false,
		"":                                          false,
	} {
		if got := Passing(fn); got != want {
			t.Errorf("%q: %v", fn, got)
		}
	}
}
