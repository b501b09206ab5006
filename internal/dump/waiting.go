package dump

import (
	"cmp"
	"slices"
)

// Waiting is what the goroutines of a Dump wait on: each object once, with those
// that wait on it and those that could end that. Package waiton finds it out.
// It is not changed after it was made.
type Waiting struct {
	Objects []WaitObject // most waiters first
	Cycles  []WaitCycle  // most goroutines first

	Waiters int // goroutines that wait on at least one of the Objects
	// Moved counts the goroutines that went on after the Dump was made or while
	// their objects were read; nothing is said about them.
	Moved int
	// Unknown counts those that hold still, but whose object could not be found.
	Unknown int
	// Unsearched counts the goroutines whose stacks could not be searched whole:
	// a reference there is missing in the Refs.
	Unsearched int
}

// ObjectKind is a kind of objects that goroutines wait on.
type ObjectKind uint8

// The kinds.
const (
	KindChan ObjectKind = iota
	KindMutex
	KindRWMutex
	KindWaitGroup
	KindCond
	KindSemaphore // of the runtime, the network poller, or of a type that is not known
	KindNilChan   // no object: it waits for ever
	KindNoCases   // no object: a select without cases waits for ever
)

var kindNames = [...]string{
	KindChan: "chan", KindMutex: "sync.Mutex", KindRWMutex: "sync.RWMutex", KindWaitGroup: "sync.WaitGroup",
	KindCond: "sync.Cond", KindSemaphore: "semaphore", KindNilChan: "nil channel", KindNoCases: "empty select",
}

// String is the kind as reports spell it.
func (k ObjectKind) String() string { return kindNames[k] }

// Forever says that nothing can wake those who wait on the kind.
func (k ObjectKind) Forever() bool { return k == KindNilChan || k == KindNoCases }

// WaitHow is what a goroutine wants of the object.
type WaitHow uint8

// What a goroutine may want.
const (
	HowReceive WaitHow = iota + 1
	HowSend
	HowSelect // of a select without cases
	HowLock
	HowRLock
	HowWait    // of a WaitGroup or Cond
	HowAcquire // of a semaphore
)

var howNames = [...]string{
	HowReceive: "receive", HowSend: "send", HowSelect: "select", HowLock: "lock", HowRLock: "rlock",
	HowWait: "wait", HowAcquire: "acquire",
}

// String is what the goroutine wants, as reports spell it.
func (h WaitHow) String() string { return howNames[h] }

// WaitObject is an object that at least one goroutine waits on. Its state is
// that of a moment while the goroutines that it lists waited.
type WaitObject struct {
	Kind ObjectKind
	Addr uint64 // in the process; 0 for the kinds that wait for ever

	Chan  ChanState  // of a channel
	Lock  LockState  // of a mutex
	Group GroupState // of a WaitGroup

	Waiters []Waiter // in ascending order of G
	// Refs are other goroutines, which do not wait on it, whose stacks refer to
	// it: those that could wake the waiters. In ascending order of G.
	Refs     []ObjectRef
	RefsMore int // how many are left out of Refs
	Global   GlobalRef
}

// ChanState is the state of a channel.
type ChanState struct {
	Elem               string // type of the elements, as reflect.Type.String has it; "" if unknown
	Len, Cap           uint64 // elements
	Closed             bool
	Timer              bool // a timer sends on it; see MaybeTimer
	Receivers, Senders int  // in its queues
	QueueCut           bool // there are more in the queues
}

// LockState is the state of a Mutex or an RWMutex. Go does not record who holds
// one.
type LockState struct {
	Locked   bool // held, of an RWMutex by a writer
	Starving bool // handed over in the order of arrival
	Queued   int  // how many wait for the mutex, by its own count
	Readers  int  // of an RWMutex: how many hold it, or wait to read, when a writer is there
	Writer   bool // of an RWMutex: a writer holds it or waits for it
}

// GroupState is the state of a WaitGroup.
type GroupState struct {
	Counter int // what is not Done
	Waiting int // goroutines in Wait, by its own count
}

// Waiter is a goroutine that waits on an object.
type Waiter struct {
	G      int32 // index in Dump.Goroutines
	How    WaitHow
	Select bool // it is one case of a select
}

// ObjectRef is a goroutine with a word on its stack that points to an object.
type ObjectRef struct {
	G    int32 // index in Dump.Goroutines
	Near bool  // the word points in front of the object: perhaps to a struct around it
}

// GlobalRef says whether global variables refer to an object.
type GlobalRef uint8

// How they may refer to it.
const (
	GlobalNone  GlobalRef = iota
	GlobalNear            // one points in front of it: perhaps to a struct around it
	GlobalExact           // one points to it
	GlobalSelf            // it is a global variable or part of one
)

// Verdict is what can be said about the chance that an object's waiters go on.
type Verdict uint8

// The verdicts.
const (
	// VerdictReachable: another goroutine's stack or a global refers to it.
	VerdictReachable Verdict = iota
	// VerdictTimer: a timer sends on it, or perhaps does; see MaybeTimer.
	VerdictTimer
	// VerdictUnreferenced: no other goroutine's stack and no global refers to it.
	// The heap is not searched, so this is no proof.
	VerdictUnreferenced
	// VerdictForever: nothing can wake the waiters, by the rules of the language.
	VerdictForever
)

var verdictNames = [...]string{
	VerdictReachable: "reachable", VerdictTimer: "timer", VerdictUnreferenced: "unreferenced", VerdictForever: "forever",
}

// String is the verdict as JSON spells it.
func (v Verdict) String() string { return verdictNames[v] }

// Verdict is what can be said about o.
func (o *WaitObject) Verdict() Verdict {
	switch {
	case o.Kind.Forever():
		return VerdictForever
	case o.MaybeTimer():
		return VerdictTimer
	case o.Global == GlobalNone && len(o.Refs) == 0 && o.RefsMore == 0:
		return VerdictUnreferenced
	}
	return VerdictReachable
}

// MaybeTimer says that a timer sends on the channel o, or may do so: before Go
// 1.23, and with GODEBUG=asynctimerchan=1, a timer's channel is like any other
// chan time.Time of capacity 1 (time/sleep.go, newTimer; time/tick.go).
func (o *WaitObject) MaybeTimer() bool {
	return o.Chan.Timer || o.Kind == KindChan && o.Chan.Elem == "time.Time" && o.Chan.Cap == 1
}

// WaitCycle is a smallest set of goroutines that wait for each other: all that
// refer to an object of the set, but for those that wait on it, wait on objects
// of the set themselves, or on such that nobody refers to. It is likely a
// deadlock, and never proof of one: references in the heap are not known, and
// neither is who holds a mutex.
type WaitCycle struct {
	Objects    []int32 // indices in Waiting.Objects, ascending
	Goroutines []int32 // indices in Dump.Goroutines, ascending
	// Global says that a mutex of the set is in reach of globals: any goroutine may
	// hold it.
	Global bool
}

// NewWaiting puts the objects in order and finds the cycles among them. It takes
// w over.
func NewWaiting(w *Waiting) *Waiting {
	slices.SortFunc(w.Objects, func(a, b WaitObject) int {
		return cmp.Or(cmp.Compare(len(b.Waiters), len(a.Waiters)), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Addr, b.Addr))
	})
	w.Cycles = findCycles(w.Objects)
	return w
}
