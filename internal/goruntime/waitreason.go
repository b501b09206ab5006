package goruntime

// fakeWaits are the wait reasons of goroutines that the runtime marks as
// waiting while they stay on their M, so that the garbage collector may scan
// their stacks. They do not block: show them as running in the runtime.
// Source: runtime/runtime2.go isWaitingForSuspendG (Go 1.23+), and the callers
// of casGToWaiting in earlier versions.
var fakeWaits = map[string]bool{
	"GC assist marking":       true,
	"GC worker (active)":      true,
	"GC mark termination":     true,
	"garbage collection":      true,
	"garbage collection scan": true,
	"stopping the world":      true,
	"flushing proc caches":    true,
	"trace goroutine status":  true,
	"trace proc status":       true,
	"page trace flush":        true,
	"debug call":              true,
	"dumping heap":            true,
}

// IsFakeWait says whether a wait reason is one under which a goroutine keeps
// its M: it is in state waiting but does not block.
func IsFakeWait(reason string) bool { return fakeWaits[reason] }

// FirstWaitReason is the text of entry 1 of runtime.waitReasonStrings in every
// version from Go 1.18 to 1.27; entry 0 is empty. It tells the real table from
// another array of strings.
const FirstWaitReason = "GC assist marking"
