package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/exp/trace"

	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/perfetto/perfettotest"
	"gopherscope/internal/recording"
)

// noted makes a recording of a server one of a flight recorder, with a note in its middle, when a
// goroutine runs, and returns the file, the note and when the recording begins.
func noted(t *testing.T) (file string, note recording.Note, begin int64) {
	t.Helper()
	f, err := os.Open("../recording/testdata/v1.0.gscope")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	src, err := recording.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	file = filepath.Join(t.TempDir(), "noted.gscope")
	out, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	w, err := recording.NewFlight(src, recording.FlightOptions{Last: time.Hour, Memory: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := src.Run(context.Background(), func(e *event.Event) error {
		if n++; n > 100 && note.Cause == "" && e.To == goruntime.Running && e.P >= 0 {
			if err := w.Event(e); err != nil {
				return err
			}
			note = recording.Note{Time: e.Time + 1, Cause: "runnable > 2 \"\x1b[2J", Detail: "runnable = 3"}
			return w.Begin(out, &note)
		}
		return w.Event(e)
	}, w.Tick); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.End(), out.Close()); err != nil || note.Cause == "" {
		t.Fatalf("%v, the note is %+v", err, note)
	}
	return file, note, src.Info().Begin
}

// TestNotesConverted wants the note of a recording in every format that has a place for it.
func TestNotesConverted(t *testing.T) {
	file, note, begin := noted(t)
	text := `note mono_ns=` + jsonText(t, note.Time) + ` cause="runnable > 2 \"\x1b[2J" detail="runnable = 3"` + "\n"
	if out := string(command(t, "convert", "--to", "text", file)); strings.Count(out, text) != 1 || strings.Count(out, "\nnote ") != 1 {
		t.Errorf("%s: no line %s in the text", file, text)
	}
	checkJSONNote(t, command(t, "convert", "--to", "json", file), note)
	checkPerfettoNote(t, command(t, "convert", "--to", "perfetto", file), note)
	if n := gotraceNotes(t, command(t, "convert", "--to", "gotrace", file), "runnable > 2 \"\x1b[2J (runnable = 3)"); n != 1 {
		t.Errorf("%s: %d log events with the note", file, n)
	}
	command(t, "convert", "--to", "folded", file)
	// Of a part there are the notes of its time.
	at := time.Duration(note.Time - begin)
	for _, part := range []struct {
		flag, value string
		want        int
	}{{"--from", (at + 1).String(), 0}, {"--from", at.String(), 1}, {"--to-time", at.String(), 0}, {"--to-time", (at + 1).String(), 1}} {
		if out := command(t, "convert", "--to", "text", part.flag, part.value, file); strings.Count(string(out), "\nnote ") != part.want {
			t.Errorf("%s %s: not %d notes", part.flag, part.value, part.want)
		}
	}
}

func jsonText(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func checkJSONNote(t *testing.T, out []byte, note recording.Note) {
	t.Helper()
	n := 0
	for line := range bytes.Lines(out) {
		var got struct {
			Type, Cause, Detail string
			Time                time.Time
			Mono                int64 `json:"mono_ns"`
		}
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if got.Type != "note" {
			continue
		}
		n++
		if got.Mono != note.Time || got.Cause != note.Cause || got.Detail != note.Detail || got.Time.Year() < 2026 {
			t.Errorf("JSON: %s", line)
		}
	}
	if n != 1 {
		t.Errorf("JSON: %d notes", n)
	}
}

func checkPerfettoNote(t *testing.T, out []byte, note recording.Note) {
	t.Helper()
	tr, err := perfettotest.Read(out)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, s := range tr.Slices {
		if s.Category != "note" {
			continue
		}
		n++
		if !s.Instant || s.Name != note.Cause || s.Args["detail"] != note.Detail || s.Begin != note.Time || !strings.HasPrefix(s.Track.Name, "gopherscope trace") {
			t.Errorf("Perfetto: %+v on %q", s, s.Track.Name)
		}
	}
	if n != 1 {
		t.Errorf("Perfetto: %d notes", n)
	}
}

// gotraceNotes is how many log events of ours with a text there are.
func gotraceNotes(t *testing.T, out []byte, text string) int {
	t.Helper()
	r, err := trace.NewReader(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for {
		e, err := r.ReadEvent()
		if errors.Is(err, io.EOF) {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind() == trace.EventLog && e.Log().Category == "gopherscope" {
			if e.Log().Message != text {
				t.Errorf("logged: %q", e.Log().Message)
			}
			n++
		}
	}
}
