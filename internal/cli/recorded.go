package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"gopherscope/internal/cut"
	"gopherscope/internal/engine"
	"gopherscope/internal/event"
	"gopherscope/internal/recording"
	"gopherscope/internal/stream"
)

// stdinName is the operand and the output that stand for a pipe.
const stdinName = "-"

// The kinds of files that an operand can name.
const (
	noFile = iota
	otherFile
	recordingFile
)

// fileKind says whether an operand names a recording: a file that begins as one, or a
// pipe, which can only be found out by reading it.
func fileKind(path string) (int, error) {
	if path == stdinName {
		return recordingFile, nil
	}
	st, err := os.Stat(path)
	switch {
	case err != nil:
		return noFile, nil // whatever is wrong with it, it is not what the user means
	case st.IsDir():
		return otherFile, nil
	case !st.Mode().IsRegular():
		return recordingFile, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return noFile, err
	}
	defer f.Close()
	head := make([]byte, 16)
	n, err := io.ReadFull(f, head)
	switch {
	case err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return noFile, err
	case recording.Looks(head[:n]):
		return recordingFile, nil
	}
	return otherFile, nil
}

// recordedSource is the trace in a recording.
type recordedSource struct {
	*recording.Reader
	term *terminal
	name string
	file io.Closer // nil if it is not ours to close
	end  int64     // when to stop, CLOCK_MONOTONIC, ns; 0 is at its end
	over bool      // it stopped then
}

var (
	_ stream.Source = (*recordedSource)(nil)
	_ cut.Blocks    = (*recordedSource)(nil)
)

// openRecording begins to read a recording, which ends after the duration if that is not 0.
func openRecording(t *terminal, path string, o engineOptions, duration time.Duration) (*recordedSource, error) {
	if o.name != engineAuto || o.ring != "" || o.overhead != "" {
		return nil, usagef("--engine, --ring-size and --max-overhead are for a trace of a process: %s is a recording", path)
	}
	s := &recordedSource{term: t, name: path}
	var in io.Reader
	if path == stdinName {
		s.name, in = "the recording", t.In
	} else {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("open recording: %w", err)
		}
		s.file, in = f, f
	}
	var err error
	if s.Reader, err = recording.NewReader(in); err != nil {
		if s.file != nil {
			s.file.Close()
		}
		return nil, s.explain(err)
	}
	if duration > 0 {
		s.end = later(s.Info().Begin, duration)
	}
	if o.stacks && !s.Info().Stacks {
		t.notef("note: there are no stacks in %s: it was recorded without --stacks", s.name)
	}
	return s, nil
}

// explain adds the name of the file, and what can be done, to an error of reading it.
func (s *recordedSource) explain(err error) error { return explainRecording(s.name, err) }

func explainRecording(name string, err error) error {
	var newer *recording.VersionError
	var damage *recording.DamageError
	named := fmt.Errorf("%s: %w", name, err)
	switch {
	case errors.Is(err, recording.ErrEmpty):
		return withHint(named, "the recorder was killed, or the disk was full, before it could write anything")
	case errors.Is(err, recording.ErrNotRecording):
		return withHint(named, "gopherscope record makes recordings")
	case errors.As(err, &newer):
		return withHint(named, "use the gopherscope that recorded it, or a newer one")
	case errors.As(err, &damage):
		return withHint(named, "the events before are whole and were read; the rest is lost")
	}
	return err
}

// errOver ends the reading at the end of the duration.
var errOver = errors.New("the duration is over")

// Run implements stream.Source. It says when the recording ends early. Whether the trace paused at the
// end of the duration is told by what comes after it, so some of that is read.
func (s *recordedSource) Run(ctx context.Context, emit func(*event.Event) error, tick func(now int64) error) error {
	own := false // the error is the caller's
	note := func(err error) error {
		own = own || err != nil
		return err
	}
	beyond := false // an event after the end has come
	err := s.Reader.Run(ctx, func(e *event.Event) error {
		if s.end == 0 || e.Time < s.end {
			return note(emit(e))
		}
		first := !beyond
		if beyond = true; !first || e.Kind != event.Gap || e.Since >= s.end {
			return nil
		}
		gap := *e
		gap.Time = s.end
		return note(emit(&gap))
	}, func(now int64) error {
		if s.end == 0 || now < s.end {
			return note(tick(now))
		}
		s.over = true
		if !beyond && now-s.end < int64(engine.LongestPause) {
			return nil
		}
		return errOver
	})
	if s.over && (err == nil || errors.Is(err, errOver)) {
		err = errors.Join(err, note(tick(s.end)))
	}
	for _, n := range s.Notes() {
		if !own {
			s.term.notef("note: recorded for %s", noteText(s, &n))
		}
	}
	switch {
	case own:
		return err
	case errors.Is(err, errOver):
		return nil
	case err != nil:
		return s.explain(err)
	}
	if !s.Complete() && ctx.Err() == nil {
		s.term.notef("note: %s ends early: the recorder was killed or the disk was full; %d events up to %s", s.name, s.Events(),
			time.Unix(0, s.Wall(s.Last())).Format("2006-01-02 15:04:05.000"))
	}
	return nil
}

// Totals implements stream.Source.
func (s *recordedSource) Totals() (stream.Totals, error) {
	t, err := s.Reader.Totals()
	if s.over {
		t.Now = s.end
	}
	return t, err
}

// Close implements stream.Source.
func (s *recordedSource) Close() error {
	err := s.Reader.Close()
	if s.file != nil {
		err = errors.Join(err, s.file.Close())
	}
	return err
}
