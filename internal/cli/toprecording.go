package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"gopherscope/internal/recording"
	"gopherscope/internal/report"
	"gopherscope/internal/tui"
)

// topRecording reads a recording for top.
type topRecording struct {
	*topSaver
	name   string
	file   *os.File
	reader *recording.Reader
	cancel context.CancelFunc

	mu     sync.Mutex // Close comes while a Sample may be under way
	replay *tui.Replay
	notes  []string
	broken bool // that it is was said
}

var _ tui.Host = (*topRecording)(nil)

// openTopRecording opens a recording to be shown with an interval. The caller must Close it.
func openTopRecording(ctx context.Context, path string, interval time.Duration) (h *topRecording, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open recording: %w", err)
	}
	h = &topRecording{topSaver: &topSaver{}, name: path, file: f}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.Close())
		}
	}()
	if h.reader, err = recording.NewReader(f); err != nil {
		return h, explainRecording(h.name, err)
	}
	if h.reader.Info().PID == 0 {
		return h, withHint(fmt.Errorf("%s is of several processes, and top shows one", path), "for the figures of all of them, use gopherscope stat")
	}
	ctx, h.cancel = context.WithCancel(ctx)
	h.replay, err = tui.NewReplay(ctx, h.reader, interval)
	if err != nil {
		return h, fmt.Errorf("%s: %w", path, err)
	}
	if h.replay.Recorded().Cut {
		h.notes = append(h.notes, path+" ends early: the recorder was killed or the disk was full, or it still records")
	}
	return h, nil
}

// Sample implements tui.Host.
func (h *topRecording) Sample(w tui.Want) (*tui.Sample, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, err := h.replay.Sample(w)
	if err != nil {
		return nil, errors.New(oneLine(report.ErrorText(err)))
	}
	if err := h.replay.Err(); err != nil && !h.broken {
		h.broken = true
		h.notes = append(h.notes, oneLine(report.ErrorText(explainRecording(h.name, err)))+"; what comes before is shown")
	}
	if len(h.notes) > 0 {
		with := *s
		with.Notes = append(append([]string(nil), s.Notes...), h.notes...)
		s, h.notes = &with, nil
	}
	return s, nil
}

// errNoProcess is why nothing can be attached.
var errNoProcess = errors.New("a recording has no process to attach to")

// StartEngine implements tui.Host. The Model does not ask.
func (h *topRecording) StartEngine() error { return errNoProcess }

// StopEngine implements tui.Host.
func (h *topRecording) StopEngine() error { return nil }

// EngineEnded implements tui.Host.
func (h *topRecording) EngineEnded() <-chan struct{} {
	ended := make(chan struct{})
	close(ended)
	return ended
}

// Close ends a Sample that is under way, and closes the file.
func (h *topRecording) Close() error {
	if h.cancel != nil {
		h.cancel()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.replay != nil {
		h.replay.Close()
	}
	if h.reader == nil {
		return h.file.Close()
	}
	return errors.Join(h.reader.Close(), h.file.Close())
}

// runTopRecording shows a recording.
func runTopRecording(ctx context.Context, t *terminal, o *topOptions) (err error) {
	in, out, err := screen(t, "for a text, use gopherscope stat "+oneLine(strconv.Quote(o.operand)))
	if err != nil {
		return err
	}
	host, err := openTopRecording(ctx, o.operand, o.interval)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, host.Close()) }()
	info, span := host.reader.Info(), host.replay.Recorded()
	from := o.from.in(host.reader)
	if from >= span.End {
		return withHint(usagef("--from %s is after the end of the recording", o.from.text), "it is %v long", time.Duration(span.End-span.Begin).Round(time.Millisecond))
	}
	p := tui.Process{PID: info.PID, File: o.operand, Command: strings.Join(info.Command, " "), GoVersion: info.GoVersion, Procs: info.Procs}
	if p.Command == "" {
		p.Command = info.Exe
	}
	m := tui.New(host, p, &tui.Options{
		Interval: o.interval, Location: time.Local, All: o.all, ASCII: !utf8Locale(), Recorded: &span, From: from,
	})
	return tui.Run(ctx, m, tui.Terminal{In: in, Out: out, Environ: os.Environ(), NoColor: o.noColor})
}
