package waiton

import (
	"context"

	"gopherscope/internal/dump"
	"gopherscope/internal/target"
)

// sizeOf is how many bytes of an object of a kind there are to read.
func (f *finder) sizeOf(kind dump.ObjectKind) int {
	switch kind {
	case dump.KindChan:
		return int(f.t.Layout.Chan.Size)
	case dump.KindMutex:
		return mutexSize
	case dump.KindRWMutex:
		return rwmutexSize
	case dump.KindWaitGroup:
		return groupSize
	case dump.KindCond:
		return condSize
	case dump.KindSemaphore:
		return semaSize
	}
	return 0
}

// readObjects reads the objects' state.
func (f *finder) readObjects(ctx context.Context) error {
	for first := 0; first < len(f.objects); first += chunkSize {
		if err := ctx.Err(); err != nil {
			return err
		}
		objects := f.objects[first:min(first+chunkSize, len(f.objects))]
		f.begin(len(objects), len(objects)*int(max(f.t.Layout.Chan.Size, condSize)))
		for i := range objects {
			o := &objects[i]
			n := f.sizeOf(o.Kind)
			o.size = uint64(n)
			f.want(o.Addr, n)
		}
		if err := f.run(); err != nil {
			return err
		}
		for i := range objects {
			if b := f.piece(i); b != nil {
				f.decode(&objects[i], b)
			} else {
				objects[i].bad = true
			}
		}
	}
	return nil
}

func (f *finder) decode(o *object, b []byte) {
	switch o.Kind {
	case dump.KindChan:
		f.decodeChan(o, b)
	case dump.KindMutex:
		o.Lock = mutexState(word32(b, 0))
	case dump.KindRWMutex:
		o.Lock = rwmutexState(b)
	case dump.KindWaitGroup:
		state := word(b, 0)
		// The highest bit of the lower half says that it is in a synctest bubble
		// (sync/waitgroup.go, waitGroupBubbleFlag, Go 1.25 on).
		o.Group = dump.GroupState{Counter: int(int32(state >> 32)), Waiting: int(state & (1<<31 - 1))}
	}
}

func (f *finder) decodeChan(o *object, b []byte) {
	l := &f.t.Layout.Chan
	c := dump.ChanState{Len: word(b, l.Count), Cap: word(b, l.Cap), Closed: word32(b, l.Closed) != 0}
	if l.Timer != target.NoField {
		c.Timer = word(b, l.Timer) != 0
	}
	if c.Len > c.Cap { // no channel
		o.bad = true
		return
	}
	c.Elem, _ = f.t.Bin.TypeName(word(b, l.ElemType) - f.t.Bias)
	o.Chan = c
	o.recvq, o.sendq = word(b, l.RecvQ), word(b, l.SendQ)
}

// The bits of Mutex.state (internal/sync/mutex.go; sync/mutex.go before Go 1.24).
const (
	mutexLocked      = 1 << 0
	mutexStarving    = 1 << 2
	mutexWaiterShift = 3
)

func mutexState(state uint32) dump.LockState {
	return dump.LockState{
		Locked:   state&mutexLocked != 0,
		Starving: state&mutexStarving != 0,
		Queued:   int(state >> mutexWaiterShift),
	}
}

// maxReaders is what a writer takes from RWMutex.readerCount while it is there
// (sync/rwmutex.go, rwmutexMaxReaders).
const maxReaders = 1 << 30

// rwmutexState is the state of an RWMutex. Its mutex is held by the one writer that
// waits for the readers or, when those are gone, writes.
func rwmutexState(b []byte) dump.LockState {
	s := mutexState(word32(b, 0))
	count, departing := int32(word32(b, readerCount)), int32(word32(b, readerCount+4))
	if count < 0 {
		s.Writer = true
		count += maxReaders
	}
	s.Locked = s.Writer && departing == 0
	s.Readers = int(max(count, 0))
	return s
}
