// Package gotrace_test traces real programs and looks at the Go execution traces that become
// of them as their users do: with the reader golang.org/x/exp/trace, with go tool trace, and
// next to the trace that the program recorded of itself in the same run.
package gotrace_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"

	"golang.org/x/exp/trace"

	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/gotrace"
	"gopherscope/internal/gstate"
	"gopherscope/internal/stream"
	"gopherscope/test/traced"
)

func TestMain(m *testing.M) {
	code := m.Run()
	traced.Cleanup()
	os.Exit(code)
}

// paths are the paths of the runtime by name.
var paths = func() map[string]event.Via {
	byName := map[string]event.Via{}
	for v := event.ViaOther; ; v++ {
		if _, ok := byName[v.String()]; ok {
			return byName
		}
		byName[v.String()] = v
	}
}()

func state(t *testing.T, name string) goruntime.Status {
	t.Helper()
	s, err := goruntime.ParseStatus(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func place(p *traced.Place) event.Location {
	if p == nil {
		return event.Location{}
	}
	return event.Location{Func: p.Func, File: p.File, Line: p.Line}
}

// events are what gopherscope trace --json said, as the stream that it was.
func events(t *testing.T, tr *traced.Trace) []event.Event {
	t.Helper()
	var list []event.Event
	for i := range tr.Snapshots {
		s := &tr.Snapshots[i]
		e := event.Event{
			Kind: event.Snapshot, Time: s.MonoNs, PID: uint32(s.PID), GoID: uint64(s.GoID),
			To: state(t, s.State), Reason: s.Reason, Fake: s.FakeWait,
		}
		if s.Parent != nil {
			e.Birth = &event.Birth{Parent: uint64(*s.Parent), CreatedBy: place(s.CreatedBy), Start: place(s.Start)}
		}
		list = append(list, e)
	}
	for i := range tr.Transitions {
		l := &tr.Transitions[i]
		e := event.Event{
			Time: l.MonoNs, PID: uint32(l.PID), TID: uint32(l.TID), GoID: uint64(l.GoID), M: l.M, P: int32(l.P),
			From: state(t, l.From), To: state(t, l.To), Via: paths[l.Via], Fake: l.FakeWait, Reason: l.Reason,
		}
		if l.Waker != nil {
			e.Waker = uint64(*l.Waker)
		}
		if l.IsBirth() {
			e.Birth = &event.Birth{Parent: uint64(*l.Parent), CreatedBy: place(l.CreatedBy), Start: place(l.Start)}
		}
		list = append(list, e)
	}
	return list
}

// convert makes a Go execution trace of a trace.
func convert(t *testing.T, tr *traced.Trace) []byte {
	t.Helper()
	list := events(t, tr)
	info := &stream.Info{GoVersion: tr.Summary.GoVersion, PID: tr.PID, Begin: list[0].Time, Wall: 1.7e18}
	var b bytes.Buffer
	w := gotrace.New(&b, info, func(uint32) []event.Location { return nil })
	states := gstate.NewTracker()
	for i := range list {
		if err := w.Event(&list[i], states.Apply(&list[i])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// readAll passes the events of a Go execution trace to visit.
func readAll(t *testing.T, data io.Reader, visit func(*trace.Event)) {
	t.Helper()
	r, err := trace.NewReader(data)
	if err != nil {
		t.Fatal(err)
	}
	for {
		ev, err := r.ReadEvent()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		visit(&ev)
	}
}
