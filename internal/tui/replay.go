package tui

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"gopherscope/internal/engine"
	"gopherscope/internal/event"
	"gopherscope/internal/recording"
)

// Replay makes Samples of a recording: of any moment, in any order, and the same one of a
// moment whichever was asked for before.
//
// Going on reads what follows. Going back begins at a checkpoint, which is what is known of each
// goroutine at a moment, and reads from there; there are some thirty of them over
// the recording, made when they are passed. So memory goes with the goroutines, and not
// with the events but for those between two ticks, of which there are twenty a second. It
// is not safe for concurrent use.
type Replay struct {
	ctx      context.Context
	reader   *recording.Reader
	interval int64
	begin    int64
	end      int64 // after the last event
	cut      bool  // the recording has no end of its own
	err      error // of the recording: it is read up to there

	points  []int64 // when checkpoints are made, in order
	saved   map[int64]*checkpoint
	entries int // in saved

	states   *states
	recorder *Recorder
	early    []event.Event // of pos and later, which came before the tick
	pos      int64         // all events before are in states
	limit    int64         // events before it are taken when they come
	skip     int64         // events before it were taken
	ticked   int64         // all events before have come
	over     bool          // there is nothing more to come
	next     func() (int64, bool)
	stop     func()
	runErr   error // of the Run under way

	ticks []tick // at pos and later, which came already

	watchFrom int64 // no transition of the watched goroutine since then is missing, but for the limit
	last      *Sample
}

// tick is what the reader says at a tick, which is the same however it came there.
type tick struct {
	now       int64
	wall      int64 // minus CLOCK_MONOTONIC
	lost      engine.Lost
	cost, cpu float64 // of a CPU, about then: that of the engine to the process, and all that it used
}

// Recorded is what is known of a recording before it is read.
type Recorded struct {
	Begin, End int64 // CLOCK_MONOTONIC, ns; no event is at End or later
	Cut        bool  // it was not ended by its recorder
}

// How many checkpoints there are, how far apart at least, and how many goroutines all of
// them have at most: a goroutine takes 64 bytes in one.
const (
	maxCheckpoints    = 32
	minCheckpointStep = 1 << 17 // events, which are read in some 50 ms
	maxCheckpointed   = 1 << 21
)

// NewReplay returns the Replay of a recording that can be sought in and was not run. The
// rates of a Sample are those of the interval before it. A Sample ends with an error when ctx
// does.
func NewReplay(ctx context.Context, r *recording.Reader, interval time.Duration) (*Replay, error) {
	return newReplay(ctx, r, interval, minCheckpointStep)
}

func newReplay(ctx context.Context, r *recording.Reader, interval time.Duration, step uint64) (*Replay, error) {
	spans, complete, err := r.Spans()
	if err != nil {
		return nil, fmt.Errorf("read the index of the recording: %w", err)
	}
	info := r.Info()
	p := &Replay{
		ctx: ctx, reader: r, interval: int64(interval), begin: info.Begin, end: info.Begin + 1, cut: !complete,
		saved: map[int64]*checkpoint{}, states: newStates(info.GoVersion, info.Stacks, r.Stack),
	}
	const longest = int64(1) << 61 // so that nothing overflows, whatever a file says
	total := uint64(0)
	for _, s := range spans {
		p.end = max(p.end, min(s.Last, p.begin+longest)+1)
		total += s.Events
	}
	passed := uint64(0)
	step = max(total/maxCheckpoints, step)
	for _, s := range spans {
		if passed += s.Events; passed >= step && s.Last > p.begin && (len(p.points) == 0 || s.Last > p.points[len(p.points)-1]) {
			p.points, passed = append(p.points, s.Last), 0
		}
	}
	if err := p.restore(p.first()); err != nil {
		return nil, err
	}
	return p, nil
}

// Recorded says where the recording begins and ends, as far as that is known by now.
func (p *Replay) Recorded() Recorded { return Recorded{p.begin, p.end, p.cut} }

// Err is what is wrong with the recording: it is read up to there, and a Sample of a later
// moment is that of the last one. It is nil as long as nothing was found.
func (p *Replay) Err() error { return p.err }

// Close ends the Replay. The Reader is the caller's to close.
func (p *Replay) Close() {
	if p.stop != nil {
		p.stop()
	}
}

// Sample is what is known of the moment w.At, or the one nearest to it in the recording.
func (p *Replay) Sample(w Want) (*Sample, error) {
	at := min(max(w.At, p.begin), p.end)
	if p.last != nil && p.last.Position.At == at && (w.Watch == 0 || p.last.Rates.Watched == w.Watch) {
		return p.last, nil
	}
	s, err := p.jump(at, w.Watch)
	if err == nil && w.Watch != 0 && len(s.Rates.History) < enoughHistory && p.watchFrom > p.begin {
		// Its last transitions were longer ago: only the whole recording up to here tells.
		if err = p.restore(p.first()); err == nil {
			p.recorder.history, p.watchFrom = nil, p.pos
			s, err = p.sample(at)
		}
	}
	if err != nil { // whatever comes next begins at a checkpoint, and knows of no history
		p.last, p.over, p.pos = nil, true, p.end+1
		p.recorder.Watch(0)
		return nil, err
	}
	p.last = s
	return s, nil
}

// enoughHistory is how many transitions of a goroutine are enough not to look for more.
const enoughHistory = 50

// jump makes the Sample of a moment, from the checkpoint nearest to it unless that is where
// the position leads anyway.
func (p *Replay) jump(at int64, watch uint64) (*Sample, error) {
	from := max(p.begin, at-p.interval)
	if point := p.nearest(from); p.pos > from || p.watchNew(watch) || point.time > p.pos {
		if err := p.restore(point); err != nil {
			return nil, err
		}
		p.watch(watch)
	}
	return p.sample(at)
}

// sample makes the Sample of a moment by going on from the position.
func (p *Replay) sample(at int64) (*Sample, error) {
	from := max(p.begin, at-p.interval)
	if err := p.advance(from); err != nil {
		return nil, err
	}
	p.recorder.Take(from)
	if err := p.advance(at); err != nil {
		return nil, err
	}
	if at > p.end { // only now it is known where a damaged recording ends
		return p.jump(p.end, 0)
	}
	return p.make(from, at)
}

// watchNew says whether the goroutine that is watched is another one.
func (p *Replay) watchNew(id uint64) bool { return id != 0 && id != p.recorder.watched }

// watch keeps the transitions of a goroutine, from the position on.
func (p *Replay) watch(id uint64) {
	if p.watchNew(id) {
		p.recorder.Watch(id)
		p.watchFrom = p.pos
	}
}

// make makes the Sample of the position.
func (p *Replay) make(from, at int64) (*Sample, error) {
	here, err := p.tickAt(at)
	if err != nil {
		return nil, err
	}
	paused, err := p.paused(at)
	if err != nil {
		return nil, err
	}
	now := at
	if paused != 0 {
		now = max(from, paused)
	}
	rates := p.recorder.Take(now)
	rates.Charge(p.reader.Info().Engine, here.lost, 0, time.Duration(here.cost*float64(rates.Over)))
	d, ran, unknown := p.states.at(at, from, time.Unix(0, at+here.wall))
	d.PID = p.reader.Info().PID
	s := &Sample{Dump: d, Stacks: d, Rates: rates, Position: &Position{
		Recorded: p.Recorded(), At: at, Over: time.Duration(at - from), Ran: ran, Unknown: unknown, Paused: paused,
		CPU: time.Duration(here.cpu * float64(at-from)),
	}}
	for _, n := range p.reader.Notes() {
		if from < n.Time && n.Time <= at {
			text := "recorded for " + n.Cause
			if n.Detail != "" {
				text += " (" + n.Detail + ")"
			}
			s.Notes = append(s.Notes, text)
		}
	}
	return s, nil
}

// tickAt is the first tick at a moment or later, up to which everything was taken; the end if
// there is none.
func (p *Replay) tickAt(at int64) (tick, error) {
	for i := range p.ticks {
		if p.ticks[i].now >= at {
			return p.ticks[i], nil
		}
	}
	return p.tick(at)
}

// tick is what the reader says now.
func (p *Replay) tick(now int64) (tick, error) {
	totals, err := p.reader.Totals()
	t := tick{now: now, wall: p.reader.Wall(0), lost: totals.Lost}
	if cost, cpu, over := p.reader.Spent(); over > 0 {
		t.cost, t.cpu = cost.Seconds()/over.Seconds(), cpu.Seconds()/over.Seconds()
	}
	return t, err
}

// manyTicks is how many ticks are kept at most while nothing happens: far more than there are in the
// longest pause.
const manyTicks = 4096

// paused says since when the trace paused at a moment up to which everything was taken; 0
// if it did not. The Gap comes at the end of a pause, and no event before.
func (p *Replay) paused(at int64) (int64, error) {
	for len(p.early) == 0 && !p.over && p.ticked-at < int64(engine.LongestPause) && len(p.ticks) < manyTicks {
		if err := p.pull(); err != nil {
			return 0, err
		}
	}
	for i := range p.early {
		if e := &p.early[i]; e.Kind == event.Gap && e.Since < at {
			return e.Since, nil
		}
	}
	return 0, nil
}

// advance takes all events before a moment.
func (p *Replay) advance(to int64) error {
	for _, point := range p.points {
		if point > p.pos && point <= to {
			if err := p.take(point); err != nil {
				return err
			}
			p.save(point)
		}
	}
	return p.take(to)
}

func (p *Replay) take(to int64) error {
	if to <= p.pos {
		return nil
	}
	p.limit = to
	early := p.early
	p.early = p.early[:0]
	for i := range early {
		p.event(&early[i])
	}
	for p.ticked < to && !p.over {
		if err := p.pull(); err != nil {
			return err
		}
	}
	p.pos = to
	p.ticks = slices.DeleteFunc(p.ticks, func(t tick) bool { return t.now < to })
	return nil
}

// event takes an event, or keeps it for later.
func (p *Replay) event(e *event.Event) {
	switch {
	case e.Time < p.skip:
	case e.Time < p.limit:
		p.states.apply(e)
		p.recorder.Event(e)
	default:
		p.early = append(p.early, *e)
	}
}

// pull reads up to the next tick.
func (p *Replay) pull() error {
	now, ok := p.next()
	if ok {
		p.ticked = max(p.ticked, now)
		if now < p.limit {
			return nil // it is passed
		}
		t, err := p.tick(now)
		p.ticks = append(p.ticks, t)
		return err
	}
	p.over = true
	if err := p.runErr; err != nil && p.err == nil {
		p.err = err
	}
	if err := p.ctx.Err(); err != nil {
		return err
	}
	if p.err != nil {
		p.end, p.cut = min(p.end, max(p.reader.Last(), p.ticked, p.begin)+1), true
	}
	return nil
}

// errStopped ends a Run that is not read to its end.
var errStopped = errors.New("stopped")

// run begins to read where the reader stands.
func (p *Replay) run() {
	p.runErr = nil
	ticks := func(yield func(int64) bool) {
		err := p.reader.Run(p.ctx, func(e *event.Event) error {
			p.event(e)
			return nil
		}, func(now int64) error {
			if !yield(now) {
				return errStopped
			}
			return nil
		})
		if !errors.Is(err, errStopped) {
			p.runErr = err
		}
	}
	p.next, p.stop = iter.Pull(ticks)
}
