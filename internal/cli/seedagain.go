package cli

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"gopherscope/internal/clock"
	"gopherscope/internal/dump"
	"gopherscope/internal/event"
)

// The goroutines are read again after a pause at most once a seedPause, and take up the
// seedShare-th part of this process's time at most.
const (
	seedPause = 400 * time.Millisecond
	seedShare = 10
)

// reading is what the last snapshots took.
type reading struct {
	end  int64         // when the last one was done: CLOCK_MONOTONIC, ns; 0 if there was none
	took time.Duration // one as the trace wants it, with stacks if it has them
	bare time.Duration // one without
}

// bareShare is the part that a snapshot without stacks takes of one with them, until that is
// known: docs/usage/dump.md.
const bareShare = 4

// note keeps what a snapshot took from begin to end.
func (r *reading) note(begin, end int64, bare bool) {
	r.end = end
	switch took := time.Duration(end - begin); {
	case bare:
		r.bare = took
	case r.took == 0:
		r.took, r.bare = took, took/bareShare
	default:
		r.took = took
	}
}

// ripen makes it likelier that the goroutines are read again some day: the first time, much
// had to be made ready, and there may be fewer of them by now.
func (r *reading) ripen() {
	r.took -= r.took / 8
	r.bare -= r.bare / 8
}

// seedAgain passes on the goroutines that are there, some time after a pause, so that those that
// stay parked are known again, and those that have ended, too. While they are read nobody looks
// at the budget. So they are read only if what is left of it suffices by far for as long as that
// took the last time, and no longer than what is left; without stacks if it suffices for that
// only and the trace is not for these. If they cannot be read, they are known when they change,
// as ever.
func (b *budget) seedAgain(emit func(*event.Event) error) error {
	s := b.session
	now, err := clock.Mono()
	if err != nil {
		return err
	}
	since, room := time.Duration(now-s.read.end), b.Reserve()
	bare, took := false, s.read.took
	if room < 2*took && s.opts.stacks && !s.opts.keepStacks {
		bare, took = true, s.read.bare
	}
	if since < max(seedPause, seedShare*took) || room < 2*took {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), room)
	defer cancel()
	seeder := s.reader(emit, bare)
	err = seeder.run(ctx, processes{s.target})
	b.unsure = !seeder.known
	return err
}

// The goroutines are read once more when a trace ends: for so long at most if it still traces
// then, or if it has paused, which costs the target nothing.
const (
	lastTraced = 100 * time.Millisecond
	lastPaused = time.Second
)

// ending makes known what the last pause left unknown, when the trace is about to end, so that
// it does not end with states that nobody knows. A profile, which is of what took time, has nothing
// of that.
func (b *budget) ending(emit func(*event.Event) error) error {
	if b.paused != 0 || !b.unsure || !b.looks(lastTraced) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), lastTraced)
	defer cancel()
	seeder := b.session.reader(emit, b.session.opts.stacks)
	return seeder.run(ctx, processes{b.session.target})
}

// looks says whether the goroutines can be read within a time.
func (b *budget) looks(limit time.Duration) bool {
	s := b.session
	took := s.read.took
	if s.opts.stacks {
		took = s.read.bare
	}
	return !s.opts.keepStacks && took <= limit && !s.execs && s.proc.Check() == nil
}

// finish ends a pause in which the trace ends. The goroutines that are read are passed on after the
// gap, in the states in which they were in the moments before its end.
func (b *budget) finish(emit func(*event.Event) error) error {
	s := b.session
	if b.paused == 0 || !b.looks(lastPaused) {
		return b.end(emit)
	}
	ctx, cancel := context.WithTimeout(context.Background(), lastPaused)
	defer cancel()
	seeder := s.reader(emit, s.opts.stacks)
	dumps, err := seeder.read(ctx, processes{s.target})
	if err := errors.Join(err, b.end(emit)); err != nil || s.execs || len(dumps) == 0 {
		return err
	}
	now, err := clock.Mono()
	if err != nil {
		return err
	}
	return seeder.seeds(dumps, now)
}

// seededStacks are the stacks of the goroutines that were there before, each once. Their
// numbers are above those of an engine.
type seededStacks struct {
	stacks [][]event.Location // by number, less firstSeeded
	ids    map[string]uint32  // by the addresses' bytes
}

// firstSeeded is more than the number of any stack of an engine; maxSeeded bounds their
// memory, for the goroutines can be read many times.
const (
	firstSeeded = 1 << 20
	maxSeeded   = 1 << 16
)

// add returns the number of a stack; 0 if there are too many.
func (s *seededStacks) add(st *dump.Stack) uint32 {
	key := make([]byte, 0, 8*len(st.Frames))
	for _, f := range st.Frames {
		key = binary.LittleEndian.AppendUint64(key, f.PC)
	}
	if id, ok := s.ids[string(key)]; ok {
		return id
	}
	if len(s.stacks) == maxSeeded {
		return 0
	}
	if s.ids == nil {
		s.ids = map[string]uint32{}
	}
	places := make([]event.Location, 0, len(st.Frames))
	for _, f := range st.Frames {
		if !f.Wrapper {
			places = append(places, event.Location{Func: f.Func, File: f.File, Line: int(f.Line)})
		}
	}
	id := uint32(firstSeeded + len(s.stacks))
	s.stacks = append(s.stacks, places)
	s.ids[string(key)] = id
	return id
}

// stack is the one with this number; nil if there is none.
func (s *seededStacks) stack(id uint32) []event.Location {
	if i := int(id) - firstSeeded; i >= 0 && i < len(s.stacks) {
		return s.stacks[i]
	}
	return nil
}
