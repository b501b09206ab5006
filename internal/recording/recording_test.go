package recording

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"gopherscope/internal/event"
	"gopherscope/internal/stream"
)

func TestRoundTrip(t *testing.T) {
	for seed, events := range []int{0, 1, 500, 100_000} {
		want := random(uint64(seed), events)
		r := open(t, want.record(t, &Options{Tool: "gopherscope devel"}))
		got, err := play(t, r)
		if err != nil || !r.Complete() || r.Events() != uint64(events) || r.Tool() != "gopherscope devel" {
			t.Fatalf("%v, complete %v, %d events, tool %q", err, r.Complete(), r.Events(), r.Tool())
		}
		same(t, got.steps, want.steps)
		if !reflect.DeepEqual(got.info, want.info) {
			t.Errorf("info %+v\nwant %+v", got.info, want.info)
		}
		if got.totals != want.totals {
			t.Errorf("totals %+v\nwant %+v", got.totals, want.totals)
		}
		for id, frames := range got.stacks {
			if !reflect.DeepEqual(frames, want.stacks[id]) {
				t.Errorf("stack %d is %v, want %v", id, frames, want.stacks[id])
			}
		}
	}
}

// fill gives every field of a struct another value than 0.
func fill(t *testing.T, v reflect.Value, n *int) {
	t.Helper()
	*n++
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i), n)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(t, v.Index(0), n)
	case reflect.String:
		v.SetString(strings.Repeat("x", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Float64:
		v.SetFloat(float64(*n) + 0.1)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint8:
		v.SetUint(1)
	case reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n))
	default:
		t.Fatalf("a field of kind %v", v.Kind())
	}
}

// TestEveryField fails when a field is added that the format does not have.
func TestEveryField(t *testing.T) {
	n := 0
	var tr trace
	fill(t, reflect.ValueOf(&tr.info).Elem(), &n)
	fill(t, reflect.ValueOf(&tr.totals).Elem(), &n)
	var e event.Event
	fill(t, reflect.ValueOf(&e).Elem(), &n)
	offset := tr.info.Wall - tr.info.Begin
	labels := event.Event{Kind: event.Labels, Time: e.Time, PID: e.PID, GoID: e.GoID, Labels: e.Labels}
	e.Labels = nil // it is of that kind alone
	tr.steps = []step{{event: &e, offset: offset}, {event: &labels, offset: offset}, {now: 5, offset: offset}}
	got, err := play(t, open(t, tr.record(t, nil)))
	if err != nil {
		t.Fatal(err)
	}
	same(t, got.steps, tr.steps)
	if !reflect.DeepEqual(got.info, tr.info) || got.totals != tr.totals {
		t.Errorf("is a field new that facts.go or the columns do not have?\n%+v, %+v\nwant %+v, %+v", got.info, got.totals, tr.info, tr.totals)
	}
}

// TestExtremes has the numbers at which a difference overflows.
func TestExtremes(t *testing.T) {
	var tr trace
	for _, at := range []int64{math.MinInt64, math.MaxInt64, 0, -1, math.MaxInt64} {
		for _, p := range []int32{math.MinInt32, math.MaxInt32, event.NoP, 0} {
			e := &event.Event{
				Time: at, Since: -at, M: at, P: p, GoID: uint64(at), Waker: uint64(p), PID: math.MaxUint32, TID: uint32(p), Stack: math.MaxUint32,
				Kind: event.Gap, From: 255, To: 255, Via: 255,
			}
			tr.steps = append(tr.steps, step{event: e}, step{now: at})
		}
	}
	got, err := play(t, open(t, tr.record(t, nil)))
	if err != nil {
		t.Fatal(err)
	}
	same(t, got.steps, tr.steps)
	var out bytes.Buffer
	w, err := NewWriter(&out, &tr, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Event(&event.Event{Kind: 200}); err == nil {
		t.Error("an event of an unknown kind was recorded")
	}
}

// TestBase has a recording that begins in the middle of a trace.
func TestBase(t *testing.T) {
	n := 0
	tr := random(5, 10)
	fill(t, reflect.ValueOf(&tr.totals).Elem(), &n)
	base := tr.totals
	before := tr.totals
	for _, v := range []any{&tr.totals.Lost, &tr.totals.Cost.Hits, &tr.totals.NoStack} {
		for i := range reflect.ValueOf(v).Elem().NumField() {
			f := reflect.ValueOf(v).Elem().Field(i)
			f.SetUint(f.Uint() + 3)
		}
	}
	tr.totals.Cost.Total += 3
	tr.totals.TargetCPU += 3
	tr.totals.Paused += 3
	tr.totals.Gaps += 3
	tr.totals.Now = begin + 9
	tr.offset = tr.info.Wall - tr.info.Begin
	r := open(t, tr.record(t, &Options{Begin: begin + 7, Base: base}))
	got, err := play(t, r)
	if err != nil {
		t.Fatal(err)
	}
	want := stream.Totals{Now: begin + 9, TargetCPU: 3, Paused: 3, Gaps: 3}
	for _, f := range []*uint64{&want.Lost.RingFull, &want.Lost.ReadFault, &want.Lost.Recursion, &want.Lost.Processes, &want.Lost.NoRing, &want.Lost.Corrupt,
		&want.Cost.Hits.Uprobes, &want.Cost.Hits.Syscalls, &want.Cost.Hits.Inline, &want.NoStack.Full, &want.NoStack.Unread, &want.NoStack.Budget, &want.Cost.Hits.Stacks} {
		*f = 3
	}
	want.Cost.Total = 3
	want.Cost.NsPerUprobe, want.Cost.NsPerSyscall, want.Cost.NsPerInline, want.Cost.NsPerStack = before.Cost.NsPerUprobe, before.Cost.NsPerSyscall, before.Cost.NsPerInline, before.Cost.NsPerStack
	if got.totals != want {
		t.Errorf("totals %+v\nwant %+v", got.totals, want)
	}
	if got.info.Begin != begin+7 || got.info.Wall != tr.info.Wall+7 {
		t.Errorf("begins at %d, wall clock %d", got.info.Begin, got.info.Wall)
	}
}

// failing takes so many bytes and then has no room, as a full disk.
type failing struct {
	bytes.Buffer
	room int
}

var errFull = errors.New("no room")

func (f *failing) Write(b []byte) (int, error) {
	n := min(len(b), f.room-f.Len())
	f.Buffer.Write(b[:n])
	if n < len(b) {
		return n, errFull
	}
	return n, nil
}

// TestFull has a disk without room at every length: the error comes, comes again, and what
// is there opens.
func TestFull(t *testing.T) {
	tr := random(3, 5_000)
	whole := tr.record(t, nil)
	for room := 0; room < len(whole); room += 1 + len(whole)/31 {
		f := &failing{room: room}
		w, err := NewWriter(f, tr, nil)
		if err == nil {
			err = tr.Run(t.Context(), w.Event, w.Tick)
			if err != nil && w.Event(&event.Event{}) != err {
				t.Errorf("room %d: an event after %v is taken", room, err)
			}
			if closed := w.Close(); err == nil {
				err = closed
			}
		}
		if !errors.Is(err, errFull) {
			t.Fatalf("room for %d of %d bytes: %v", room, len(whole), err)
		}
		r, err := NewReader(bytes.NewReader(f.Bytes()))
		if errors.Is(err, ErrEmpty) && w == nil {
			continue
		}
		if err != nil {
			t.Fatalf("room %d: %v", room, err)
		}
		if _, err := play(t, r); err != nil || r.Complete() || r.Events() != w.Written() {
			t.Errorf("room %d: %v, complete %v, %d events of %d written", room, err, r.Complete(), r.Events(), w.Written())
		}
	}
}

// TestErrors wants the errors of the callbacks back as they are.
func TestErrors(t *testing.T) {
	file := random(1, 1000).record(t, nil)
	own := errors.New("own")
	never := func(int64) error { return nil }
	if err := open(t, file).Run(t.Context(), func(*event.Event) error { return own }, never); err != own {
		t.Errorf("of emit: %v", err)
	}
	if err := open(t, file).Run(t.Context(), func(*event.Event) error { return nil }, func(int64) error { return own }); err != own {
		t.Errorf("of tick: %v", err)
	}
	if _, err := NewReader(unreadable{own}); err != own {
		t.Errorf("of the file: %v", err)
	}
}

// unreadable is a file of which only the beginning can be read.
type unreadable struct{ err error }

func (f unreadable) Read(b []byte) (int, error) { return copy(b, magic[:4]), f.err }
