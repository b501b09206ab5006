package cli

import (
	"errors"
	"reflect"
	"testing"

	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/gstate"
)

func TestParseOperand(t *testing.T) {
	tests := []struct {
		name string
		args []string
		dash int
		exe  string
		want operand
		bad  bool
	}{
		{name: "a PID", args: []string{"1234"}, dash: -1, want: operand{pid: 1234}},
		{name: "a command", args: []string{"./server", "-port", "8080"}, dash: 0, want: operand{command: []string{"./server", "-port", "8080"}}},
		{name: "an executable", dash: -1, exe: "./server", want: operand{exe: "./server"}},
		{name: "nothing", dash: -1, bad: true},
		{name: "nothing after --", dash: 0, bad: true},
		{name: "two PIDs", args: []string{"1", "2"}, dash: -1, bad: true},
		{name: "a PID and a command", args: []string{"1", "ls"}, dash: 1, bad: true},
		{name: "an executable and a PID", args: []string{"1"}, dash: -1, exe: "x", bad: true},
		{name: "not a number", args: []string{"server"}, dash: -1, bad: true},
		{name: "PID 0", args: []string{"0"}, dash: -1, bad: true},
		{name: "a negative PID", args: []string{"-5"}, dash: -1, bad: true},
		{name: "a PID too large", args: []string{"99999999999"}, dash: -1, bad: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseOperand(tt.args, tt.dash, tt.exe)
			if (err != nil) != tt.bad || err == nil && !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, %v; want %+v, error %v", got, err, tt.want, tt.bad)
			}
			if err != nil && (!isUsage(err) || hint(err) == "") {
				t.Errorf("%v: not a usage error with a hint", err)
			}
		})
	}
}

func TestParseSize(t *testing.T) {
	for in, want := range map[string]int{"4096": 4096, "64K": 64 << 10, "16M": 16 << 20, "1G": 1 << 30, "8m": 8 << 20} {
		if got, err := parseSize(in); err != nil || got != want {
			t.Errorf("parseSize(%q) = %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "0", "M", "2G", "-1", "1.5M", "16MiB", "99999999999999999999"} {
		if got, err := parseSize(in); err == nil {
			t.Errorf("parseSize(%q) = %d, want an error", in, got)
		}
	}
}

func TestFilter(t *testing.T) {
	park := event.Event{GoID: 7, From: goruntime.Running, To: goruntime.Waiting, Reason: "chan receive"}
	wake := event.Event{GoID: 8, From: goruntime.Waiting, To: goruntime.Runnable}
	there := event.Event{Kind: event.Snapshot, GoID: 7, To: goruntime.Waiting, Reason: "chan receive"}
	born := gstate.Change{Birth: &event.Birth{CreatedBy: event.Location{Func: "net/http.(*Server).Serve"}}}
	var byServe traceFilter
	if err := byServe.parse(nil, nil, `http.*Serve`); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		filter traceFilter
		event  event.Event
		change gstate.Change
		want   bool
	}{
		{"no filter", traceFilter{}, park, gstate.Change{}, true},
		{"goid", traceFilter{goids: []uint64{7}}, park, gstate.Change{}, true},
		{"another goid", traceFilter{goids: []uint64{7}}, wake, gstate.Change{}, false},
		{"state entered", traceFilter{states: []goruntime.Status{goruntime.Waiting}}, park, gstate.Change{}, true},
		{"state left", traceFilter{states: []goruntime.Status{goruntime.Waiting}}, wake, gstate.Change{}, false},
		{"reason", traceFilter{reasons: []string{"select", "chan receive"}}, park, gstate.Change{}, true},
		{"another reason", traceFilter{reasons: []string{"select"}}, park, gstate.Change{}, false},
		{"creator", byServe, wake, born, true},
		{"creator unknown", byServe, wake, gstate.Change{}, false},
		{"goid that was there", traceFilter{goids: []uint64{7}}, there, gstate.Change{}, true},
		{"another goid that was there", traceFilter{goids: []uint64{8}}, there, gstate.Change{}, false},
		{"state that it was in", traceFilter{states: []goruntime.Status{goruntime.Waiting}}, there, gstate.Change{}, true},
		{"another state", traceFilter{states: []goruntime.Status{goruntime.Running}}, there, gstate.Change{}, false},
		{"reason that it waits for", traceFilter{reasons: []string{"chan receive"}}, there, gstate.Change{}, true},
		{"another reason that it waits for", traceFilter{reasons: []string{"select"}}, there, gstate.Change{}, false},
		{"creator of one that was there", byServe, there, born, true},
		{"another creator", byServe, there, gstate.Change{Birth: &event.Birth{CreatedBy: event.Location{Func: "main.main"}}}, false},
		{"end of the process", traceFilter{goids: []uint64{7}}, event.Event{Kind: event.Exit}, gstate.Change{}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.filter.match(&tt.event, &tt.change); got != tt.want {
				t.Errorf("match = %v, want %v", got, tt.want)
			}
		})
	}
	var bad traceFilter
	if err := bad.parse(nil, []string{"sleepy"}, ""); !isUsage(err) {
		t.Errorf("an unknown state: %v, want a usage error", err)
	}
	if err := bad.parse(nil, nil, "("); !isUsage(err) {
		t.Errorf("a bad regexp: %v, want a usage error", err)
	}
}

func TestHint(t *testing.T) {
	err := withHint(errors.Join(errors.New("a"), errors.New("b")), "try %d", 5)
	if got := hint(err); got != "try 5" {
		t.Errorf("hint = %q", got)
	}
	if got := oneLine(err.Error()); got != "a; b" {
		t.Errorf("oneLine = %q", got)
	}
}
