package waiton

import (
	"encoding/binary"
	"strings"

	"gopherscope/internal/dump"
)

// Where the semaphores are in the types of package sync, the same on 64-bit
// machines from Go 1.18 to 1.27 (sync/mutex.go, internal/sync/mutex.go from 1.24
// on, rwmutex.go, waitgroup.go, cond.go; runtime/sema.go, type notifyList):
//
//	Mutex      state int32; sema uint32
//	RWMutex    w Mutex; writerSem, readerSem uint32; readerCount, readerWait int32
//	WaitGroup  state uint64; sema uint32
//	Cond       L Locker; notify notifyList; checker uintptr
//	notifyList wait, notify uint32; lock uintptr; head, tail *sudog
const (
	mutexSema   = 4
	mutexSize   = 8
	writerSem   = 8
	readerSem   = 12
	readerCount = 16
	rwmutexSize = 24
	groupSema   = 8
	groupSize   = 16
	condNotify  = 16
	condHead    = 32
	condChecker = 48
	condSize    = 56
	semaSize    = 4
)

// place is what a stack of the Dump says about the goroutines that have it.
type place struct {
	pcs    []uint64 // return addresses of its frames, as linked, innermost first
	firm   int      // how many of them are at the top for sure: the runtime's frames are small
	kind   dump.ObjectKind
	how    dump.WaitHow
	offset uint64 // of the semaphore in the object

	// where on the stack, as bytes from the stack pointer, the sudog or condition
	// was; -1 if it is not known yet. All goroutines with the stack have it there.
	slot   int
	misses int  // rounds in a row in which whole tops of such stacks were searched in vain
	blind  bool // the stack does not tell what kind of semaphore is waited for
}

func (f *finder) place(id dump.StackID) *place {
	p := f.places[id]
	if p != nil {
		return p
	}
	p = &place{slot: -1}
	f.places[id] = p
	frames, cut := f.d.Stacks[id].Frames, f.d.Stacks[id].Cut
	inner := true // so far, all of the runtime and of package sync
	for i := range frames {
		if frames[i].Inlined {
			continue
		}
		p.pcs = append(p.pcs, frames[i].PC)
		if inner {
			p.firm = len(p.pcs) - 1
			inner = internal(frames[i].Func)
		}
	}
	if len(p.pcs) > 0 {
		p.pcs = p.pcs[1:] // the innermost goes on at g.sched.pc
	}
	p.kind, p.how, p.offset = semaphoreOf(frames)
	p.blind = len(frames) == 0 || cut && inner // who called is not there
	return p
}

// semaphoreOf tells what a goroutine with these frames does with a semaphore, and
// where in the object that is.
func semaphoreOf(frames []dump.Frame) (dump.ObjectKind, dump.WaitHow, uint64) {
	mutex := false
	for i := range frames {
		name := frames[i].Func
		if strings.HasPrefix(name, "runtime.") || strings.HasPrefix(name, "sync.runtime_") || strings.HasPrefix(name, "internal/sync.runtime_") {
			continue
		}
		switch name {
		case "sync.(*Mutex).lockSlow", "sync.(*Mutex).Lock", "internal/sync.(*Mutex).lockSlow", "internal/sync.(*Mutex).Lock":
			mutex = true
			continue // who calls it may be an RWMutex
		case "sync.(*RWMutex).Lock":
			if mutex {
				return dump.KindRWMutex, dump.HowLock, mutexSema
			}
			return dump.KindRWMutex, dump.HowLock, writerSem
		}
		if mutex {
			break
		}
		switch name {
		case "sync.(*RWMutex).RLock":
			return dump.KindRWMutex, dump.HowRLock, readerSem
		case "sync.(*WaitGroup).Wait":
			return dump.KindWaitGroup, dump.HowWait, groupSema
		}
		break
	}
	if mutex {
		return dump.KindMutex, dump.HowLock, mutexSema
	}
	return dump.KindSemaphore, dump.HowAcquire, 0
}

// internal says whether a function is one of those that goroutines go through
// on their way to wait.
func internal(name string) bool {
	return strings.HasPrefix(name, "runtime.") || strings.HasPrefix(name, "sync.") || strings.HasPrefix(name, "internal/sync.")
}

// isOn says whether the return addresses of the frames are on a stack that begins
// with top, in their order.
func (p *place) isOn(top []byte, bias uint64) bool {
	found := 0
	for at := 0; at+8 <= len(top) && found < len(p.pcs); at += 8 {
		if binary.LittleEndian.Uint64(top[at:]) == p.pcs[found]+bias {
			found++
		}
	}
	if len(top) == topOfStack { // there is more of it
		return found >= p.firm
	}
	return found == len(p.pcs)
}
