package summary

// FakeKind says what a goroutine does in a fake wait.
type FakeKind uint8

// The kinds, by reasons of Go 1.18 to 1.27.
const (
	// OtherFake is anything else; mostly waiting until each P has been through a
	// function, with the world not stopped (runtime/proc.go, forEachP).
	OtherFake FakeKind = iota
	// StopTheWorld is "stopping the world": from asking all Ps to stop until they have
	// (runtime/proc.go, stopTheWorldWithSema; up to Go 1.21 not for the collector's own
	// stops); and "garbage collection": the end of a mark phase, in the stopped world
	// (runtime/mgc.go, gcMarkTermination; up to Go 1.19 also gcMarkDone, before the
	// stop). What else a stopped world is used for leaves no trace, so it is a part of
	// the pause.
	StopTheWorld
	// Assist is "GC assist marking": a goroutine that allocates does some of the
	// collector's marking first (runtime/mgcmark.go, gcAssistAlloc).
	Assist
	// MarkWorker is "GC worker (active)": the collector's own goroutines mark
	// (runtime/mgc.go, gcBgMarkWorker).
	MarkWorker
)

var fakeKinds = map[string]FakeKind{
	"stopping the world": StopTheWorld,
	"garbage collection": StopTheWorld,
	"GC assist marking":  Assist,
	"GC worker (active)": MarkWorker,
}

// String is the kind's name as JSON spells it.
func (k FakeKind) String() string {
	return [...]string{"other", "stop_the_world", "assist", "mark_worker"}[k]
}

// Kind says what a goroutine does in the wait.
func (f *FakeWait) Kind() FakeKind { return fakeKinds[f.Reason] }
