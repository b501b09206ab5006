package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gopherscope/internal/event"
	"gopherscope/internal/gstate"
	"gopherscope/internal/recording"
	"gopherscope/internal/stream"
	"gopherscope/internal/trigger"
)

// incidents are the files of a flight recorder. None that is there is replaced.
type incidents struct {
	path string
	made int
}

// check finds out whether there can be files, before it is too late.
func (i *incidents) check() error {
	f, name, err := i.create()
	if err != nil {
		return createError("create recording", err)
	}
	return errors.Join(f.Close(), os.Remove(name))
}

// create makes the next file: incident.gscope, incident-2.gscope and so on, with the first name that
// is free. As it must be new, no link of somebody else's can lead it elsewhere.
func (i *incidents) create() (*os.File, string, error) {
	ext := filepath.Ext(i.path)
	name := i.path
	for n := 2; ; n++ {
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if !errors.Is(err, os.ErrExist) {
			return f, name, err
		}
		name = fmt.Sprintf("%s-%d%s", strings.TrimSuffix(i.path, ext), n, ext)
	}
}

// errFiles ends a flight recorder that has written --max-files.
var errFiles = errors.New("enough files")

// runFlight keeps the last seconds of a trace, and writes them when something happens.
func runFlight(ctx context.Context, t *terminal, o *recordOptions) (err error) {
	// From now on the signal does not end this process.
	usr1 := make(chan os.Signal, 1)
	signal.Notify(usr1, unix.SIGUSR1)
	defer signal.Stop(usr1)
	files := &incidents{path: o.output}
	if err := files.check(); err != nil {
		return err
	}
	src, err := openSource(t, o.operand, o.engine, o.duration)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	f := &flight{opts: o, term: t, src: src, files: files, usr1: usr1, states: gstate.NewTracker()}
	f.keep, err = recording.NewFlight(src, recording.FlightOptions{
		Last: o.flight.last, Memory: o.flight.memory, Tool: "gopherscope " + version(),
	})
	if err != nil {
		return err
	}
	if len(o.flight.when) > 0 {
		f.watch = trigger.NewWatch(src.Info().Begin, o.flight.when)
	}
	f.announce()
	runErr := f.run(ctx)
	t.notef("%s", summarize(t, src, f.states, f.events).Text())
	if f.missed > 0 {
		t.notef("conditions came to hold %d more times within --cool-down %s: not recorded", f.missed, o.flight.coolDown)
	}
	if files.made == 0 && runErr == nil {
		t.notef("no file was written: nothing happened that was waited for")
	}
	return runErr
}

// flight is a recorder that waits.
type flight struct {
	opts   *recordOptions
	term   *terminal
	src    stream.Source
	files  *incidents
	usr1   <-chan os.Signal
	states *gstate.Tracker
	keep   *recording.Flight
	watch  *trigger.Watch // nil without conditions
	events uint64         // transitions

	file   *os.File // that is being written; nil between two
	name   string
	until  int64 // it is written up to then: CLOCK_MONOTONIC, ns
	cool   int64 // before, no condition counts
	missed int   // conditions that did not
}

func (f *flight) announce() {
	causes := make([]string, 0, len(f.opts.flight.when)+2)
	for _, c := range f.opts.flight.when {
		causes = append(causes, c.Text)
	}
	causes = append(causes, "SIGUSR1")
	if f.opts.operand.exe == "" {
		causes = append(causes, "the end of the process")
	}
	f.term.notef("keeping the last %s in up to %s of memory; waiting for %s", f.opts.flight.last, f.opts.flight.room, strings.Join(causes, ", or "))
}

// run waits to the end of the trace. A file that is being written then is ended.
func (f *flight) run(ctx context.Context) error {
	err := f.src.Run(ctx, f.event, f.tick)
	if errors.Is(err, errFiles) {
		f.term.notef("ended: --max-files %d are written", f.opts.maxFiles)
		return nil
	}
	if err == nil && ctx.Err() == nil && f.file == nil {
		if cause, detail := ended(f.src); cause != "" {
			totals, _ := f.src.Totals() // the summary tells
			err = f.happened(&recording.Note{Time: totals.Now, Cause: cause, Detail: detail})
		}
	}
	if f.file != nil {
		err = errors.Join(err, f.end())
	}
	return err
}

// ended says how the traced process came to its end; the cause is "" if it did not, or if
// there can be several.
func ended(src stream.Source) (cause, detail string) {
	live, ok := src.(*liveSource)
	if !ok || live.session.proc == nil {
		return "", ""
	}
	s := live.session
	switch {
	case s.execs:
		return "the process executes another program", ""
	case !s.proc.Exited():
		return "", ""
	case s.launched != nil:
		<-s.launched.Ended()
		if state := s.launched.State(); state != nil {
			detail = state.String()
		}
	}
	return "the process ended", detail
}

func (f *flight) event(e *event.Event) error {
	c := f.states.Apply(e)
	if e.Kind == event.Transition {
		f.events++
	}
	if f.watch != nil {
		f.watch.Event(e, c)
	}
	return f.written(f.keep.Event(e))
}

func (f *flight) tick(now int64) error {
	if err := f.written(f.keep.Tick(now)); err != nil {
		return err
	}
	select {
	case <-f.usr1:
		if err := f.happened(&recording.Note{Time: now, Cause: "SIGUSR1"}); err != nil {
			return err
		}
	default:
	}
	if err := f.look(now); err != nil {
		return err
	}
	if f.file != nil && now >= f.until {
		f.cool = later(now, f.opts.flight.coolDown)
		if err := f.end(); err != nil {
			return err
		}
		if f.files.made >= f.opts.maxFiles {
			return errFiles
		}
	}
	f.progress(now)
	return nil
}

// look asks the conditions.
func (f *flight) look(now int64) error {
	if f.watch == nil {
		return nil
	}
	var lost uint64
	if f.watch.NeedsLost() {
		totals, err := f.src.Totals()
		if err != nil {
			return err
		}
		lost = totals.Lost.Total()
	}
	upTo := now
	if src, ok := f.src.(stream.Pausing); ok && src.PausedSince() != 0 {
		upTo = min(now, src.PausedSince())
	}
	for _, fired := range f.watch.Tick(upTo, lost) {
		if f.file == nil && now < f.cool {
			f.missed++
			continue
		}
		if err := f.happened(&recording.Note{Time: fired.Time, Cause: fired.Condition.Text, Detail: fired.Values}); err != nil {
			return err
		}
	}
	return nil
}

// happened begins a file, or adds to the one that is being written why it could have begun now.
func (f *flight) happened(why *recording.Note) error {
	if f.file != nil {
		f.term.notef("%s: also in %s", f.text(why), f.name)
		return f.written(f.keep.Note(why))
	}
	file, name, err := f.files.create()
	if err != nil {
		return createError("create recording", err)
	}
	f.files.made++
	f.file, f.name, f.until = file, name, later(why.Time, f.opts.flight.after)
	if err := f.written(f.keep.Begin(file, why)); err != nil {
		return err
	}
	since, _, short := f.keep.Kept()
	reach := time.Duration(why.Time - since).Round(100 * time.Millisecond)
	f.term.notef("%s: recording to %s, from %s before on", f.text(why), name, reach)
	if short && reach < f.opts.flight.last {
		f.term.notef("note: --memory %s holds less than --last %s", f.opts.flight.room, f.opts.flight.last)
	}
	return nil
}

// text is what happened and when.
func (f *flight) text(n *recording.Note) string { return noteText(f.src, n) }

// end ends the file.
func (f *flight) end() error {
	file := f.file
	f.file = nil
	size, events, _ := f.keep.Writing()
	err := f.keep.End()
	if err == nil {
		if st, serr := file.Stat(); serr == nil {
			size = st.Size()
		}
		f.term.notef("recorded %s: %s", f.name, formatBytes(size))
	} else {
		err = explainWrite(err, events)
	}
	return errors.Join(err, file.Close())
}

// written explains an error of the file. It is the only thing that can fail in what is kept.
func (f *flight) written(err error) error {
	if err == nil || f.file == nil {
		return err
	}
	_, events, _ := f.keep.Writing()
	err = errors.Join(explainWrite(err, events), f.file.Close())
	f.file = nil
	return err
}

// progress shows what is kept, on a terminal only.
func (f *flight) progress(now int64) {
	if !f.term.progressDue() {
		return
	}
	since, size, _ := f.keep.Kept()
	doing := "kept"
	if f.file != nil {
		doing = "writing " + f.name + ", kept"
	}
	f.term.progress("%d events, %s %v in %s", f.events, doing, time.Duration(now-since).Round(time.Second), formatBytes(size))
}

// noteText is a note of a recording with the time of day.
func noteText(src stream.Source, n *recording.Note) string {
	return time.Unix(0, src.Wall(n.Time)).Format("15:04:05.000") + " " + noteCause(n)
}

// noteCause is a note without its time.
func noteCause(n *recording.Note) string {
	if n.Detail == "" {
		return n.Cause
	}
	return n.Cause + " (" + n.Detail + ")"
}
