package gotrace

// lost is the reason of a transition that no event tells of.
const lost = "lost event"

// blockReasons has what the runtime's tracer calls a wait reason, where that differs.
// Readers know some of its words: "network", and all with "chan", "select" or "sync"
// (cmd/trace/pprof.go computePprofIO, computePprofBlock), and "forever", which ends the
// account of a goroutine (internal/trace/summary.go). The tracer knows only these kinds
// (runtime/traceruntime.go traceBlockReasonStrings); which reason is of which kind is in
// the calls of gopark, Go 1.18 to 1.27. A reason that is not here keeps its name.
var blockReasons = map[string]string{
	"":                              "unspecified",
	"chan receive (nil chan)":       "forever",
	"chan send (nil chan)":          "forever",
	"select (no cases)":             "forever",
	"panicwait":                     "forever",
	"IO wait":                       "network",
	"sync.Cond.Wait":                "sync.(*Cond).Wait",
	"semacquire":                    "sync",
	"sync.Mutex.Lock":               "sync",
	"sync.RWMutex.Lock":             "sync",
	"sync.RWMutex.RLock":            "sync",
	"sync.WaitGroup.Wait":           "sync",
	"GC assist wait":                "GC mark assist wait for work",
	"GC sweep wait":                 "GC background sweeper wait",
	"GC scavenge wait":              "system goroutine wait",
	"GC worker (idle)":              "system goroutine wait",
	"GOMAXPROCS updater (idle)":     "system goroutine wait",
	"cleanup wait":                  "system goroutine wait",
	"finalizer wait":                "system goroutine wait",
	"force gc (idle)":               "system goroutine wait",
	"trace reader (blocked)":        "system goroutine wait",
	"wait for GC cycle":             "wait until GC ends",
	"synctest.Run":                  "synctest",
	"synctest.Wait":                 "synctest",
	"chan receive (durable)":        "chan receive",
	"chan send (durable)":           "chan send",
	"select (durable)":              "select",
	"sync.WaitGroup.Wait (durable)": "sync",
}

func blockReason(reason string) string {
	if known, ok := blockReasons[reason]; ok {
		return known
	}
	return reason
}

// stwKinds has the fake waits during which the world is being stopped or stands still, with
// the name of the range that they become. The kinds are the runtime's where it can be only
// one (runtime/proc.go stwReasonStrings).
var stwKinds = map[string]string{
	"stopping the world": "stopping the world",
	"garbage collection": "GC mark termination",
	"dumping heap":       "write heap dump",
}

// Fake waits that are the marks of the garbage collector's cycle: a mark worker is at work
// only while it marks, and the collector is in its termination only when marking has
// ended (runtime/mgc.go gcBgMarkWorker, gcMarkTermination).
const (
	markWorker      = "GC worker (active)"
	markAssist      = "GC assist marking"
	markTermination = "garbage collection"
)
