package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"gopherscope/internal/dump"
	"gopherscope/internal/event"
	"gopherscope/internal/process"
	"gopherscope/internal/report"
	"gopherscope/internal/stream"
	"gopherscope/internal/tui"
)

// topHost reads the process for top, and traces it when asked to.
type topHost struct {
	topSaver
	ctx  context.Context
	src  *dumpSource
	opts engineOptions

	notes noteBuffer
	// stacks is the last Dump that has them; of use to Sample only.
	stacks *dump.Dump

	mu     sync.Mutex
	engine *topEngine // nil when none is attached
}

var _ tui.Host = (*topHost)(nil)

// stackShare is how much longer than stacks take to read it is at least until they are
// read again: they cost this program at most so large a part of a CPU, on top of
// the states.
const stackShare = 200

// Sample implements tui.Host. Stacks take several times as long to read as states, so
// they are taken along as often as they are cheap; in between those of before are
// right for the goroutines that have not run since.
func (h *topHost) Sample(w tui.Want) (*tui.Sample, error) {
	opts := &h.src.options
	opts.Stacks = w.Stacks && (h.stacks == nil || time.Since(h.stacks.Time) > stackShare*h.stacks.Took)
	rates := h.request(w.Watch)
	d, err := h.src.take(h.ctx)
	if err != nil {
		return nil, topError(err)
	}
	if opts.Stacks {
		h.stacks = d
	}
	s := &tui.Sample{Dump: d, Stacks: h.stacks, OwnCPU: ownCPU(), Rates: rates(), Notes: h.notes.take()}
	s.TargetCPU, _ = h.src.proc.CPUTime() // 0 if it is not known
	return s, nil
}

// topError says of the error of a Sample whether it is the last, and what can be done
// about it.
func topError(err error) error {
	text := oneLine(report.ErrorText(err))
	switch {
	case errors.Is(err, process.ErrExited):
		return &tui.EndedError{Why: "the process has exited"}
	case errors.Is(err, process.ErrExec):
		return &tui.EndedError{Why: "the process executes another program now"}
	case errors.Is(err, process.ErrPermission):
		return &tui.EndedError{Why: text + " (" + hint(err) + ")"}
	}
	return errors.New(text)
}

// request asks the engine for the rates of a moment, and returns what waits for them.
func (h *topHost) request(watch uint64) func() *tui.Rates {
	h.mu.Lock()
	e := h.engine
	h.mu.Unlock()
	if e == nil {
		return func() *tui.Rates { return nil }
	}
	return e.request(watch)
}

// StartEngine implements tui.Host.
func (h *topHost) StartEngine() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.engine != nil {
		return nil
	}
	ctx, cancel := context.WithCancel(h.ctx)
	e := &topEngine{cancel: cancel, requests: make(chan ratesRequest, 1), done: make(chan struct{})}
	attached := make(chan error, 1)
	go e.run(ctx, h, attached)
	if err := <-attached; err != nil {
		cancel()
		<-e.done
		if text := hint(err); text != "" {
			err = fmt.Errorf("%w (%s)", err, text)
		}
		return errors.New(oneLine(report.ErrorText(err)))
	}
	h.engine = e
	return nil
}

// StopEngine implements tui.Host.
func (h *topHost) StopEngine() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.engine
	if e == nil {
		return nil
	}
	h.engine = nil
	e.cancel()
	<-e.done
	return e.err
}

// EngineEnded implements tui.Host.
func (h *topHost) EngineEnded() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.engine == nil {
		ended := make(chan struct{})
		close(ended)
		return ended
	}
	return h.engine.done
}

// topEngine is an engine that is attached.
type topEngine struct {
	cancel   context.CancelFunc
	requests chan ratesRequest
	done     chan struct{} // closed when it is detached
	err      error         // why it ended, or could not be detached; read after done

	// Of use to Sample only.
	pending chan *tui.Rates // where the answer that was asked for comes; nil if none was
	last    *tui.Rates
}

type ratesRequest struct {
	watch  uint64
	answer chan *tui.Rates
}

// run attaches, says whether that worked, and passes the events on until ctx or the
// process ends. The methods of a stream.Source are called from this goroutine only.
func (e *topEngine) run(ctx context.Context, h *topHost, attached chan<- error) {
	defer close(e.done)
	quiet := &terminal{Stdio: Stdio{Out: &h.notes, Err: &h.notes}}
	src, err := openSource(quiet, operand{pid: h.src.proc.PID()}, h.opts, 0)
	if err == nil && h.src.proc.Exited() { // another process may have its number by now
		err = errors.Join(fmt.Errorf("process %d %w", h.src.proc.PID(), process.ErrExited), src.Close())
	}
	attached <- err
	if err != nil {
		return
	}
	t := &topTracer{engine: e, src: src, rec: tui.NewRecorder(src.Info().Begin, src.Wall)}
	err = src.Run(ctx, t.event, t.tick)
	e.err = errors.Join(err, src.Close())
}

// topTracer takes the events of an engine.
type topTracer struct {
	engine *topEngine
	src    stream.Source
	rec    *tui.Recorder
	cost   time.Duration // up to the rates before
}

func (t *topTracer) event(e *event.Event) error {
	t.rec.Event(e)
	return nil
}

// tick answers a request for rates, if there is one and the trace is not in a gap: of
// that nothing is known before its end.
func (t *topTracer) tick(now int64) error {
	if live, ok := t.src.(*liveSource); ok && live.session.budget.paused != 0 {
		return nil
	}
	select {
	case r := <-t.engine.requests:
		totals, err := t.src.Totals()
		if err != nil {
			return err
		}
		t.rec.Watch(r.watch)
		rates := t.rec.Take(now)
		rates.Charge(t.src.Info().Engine, totals.Lost, t.cost, totals.Cost.Total)
		t.cost = totals.Cost.Total
		r.answer <- rates
	default:
	}
	return nil
}

// ratesPatience is how long a Sample waits for its rates. A tick comes every 50 ms, but
// for gaps.
const ratesPatience = 300 * time.Millisecond

// request asks for rates up to now, and returns what waits for them. If none come in
// time, those of before are shown once more, and the next Sample waits for the same
// ones: rates are since the last that were given. It is for Sample only.
func (e *topEngine) request(watch uint64) func() *tui.Rates {
	if e.pending == nil {
		e.pending = make(chan *tui.Rates, 1)
		e.requests <- ratesRequest{watch: watch, answer: e.pending} // there is room: the one before was answered
	}
	return func() *tui.Rates {
		timer := time.NewTimer(ratesPatience)
		defer timer.Stop()
		select {
		case e.last = <-e.pending:
			e.pending = nil
		case <-e.done:
		case <-timer.C:
		}
		return e.last
	}
}

// noteBuffer keeps the messages that would go to the terminal, line by line.
type noteBuffer struct {
	mu    sync.Mutex
	lines []string
}

// Write implements io.Writer. A message is written at once (see terminal.notef).
func (b *noteBuffer) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		b.add(strings.TrimPrefix(strings.TrimSuffix(line, "\n"), "gopherscope: "))
	}
	return len(p), nil
}

func (b *noteBuffer) add(line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, line)
}

func (b *noteBuffer) take() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	lines := b.lines
	b.lines = nil
	return lines
}
