package report

import (
	"bytes"
	"strings"
	"testing"

	"gopherscope/internal/engine"
	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/gstate"
)

// With stacks, the table says in which of the program's functions a goroutine waits or
// makes a call, after what else there is to say, and at births the go statement alone.
func TestTextStacks(t *testing.T) {
	stack := []event.Location{
		{Func: "runtime.gopark", File: "proc.go", Line: 1}, {Func: "syscall.Read", File: "syscall.go", Line: 2},
		{Func: "internal/poll.(*FD).Read", File: "fd.go", Line: 3}, {Func: "main.serve\x1b[2J", File: "/src/server.go", Line: 41},
	}
	for name, test := range map[string]struct {
		event event.Event
		want  string // the end of the line
	}{
		"park":    {event.Event{To: goruntime.Waiting, Reason: "sleep", Via: event.ViaPark, Stack: 1}, `sleep                in main.serve\x1b[2J at server.go:41`},
		"syscall": {event.Event{To: goruntime.Syscall, Via: event.ViaSyscall, Stack: 1}, ` in main.serve\x1b[2J at server.go:41`},
		"cgo":     {event.Event{To: goruntime.Syscall, Via: event.ViaCgo, Stack: 1}, ` cgo in main.serve\x1b[2J at server.go:41`},
		"birth":   {event.Event{To: goruntime.Runnable, Via: event.ViaCreate, Stack: 1, Birth: &event.Birth{Start: event.Location{Func: "main.f"}}}, ` created by the runtime, start main.f`},
		"none":    {event.Event{To: goruntime.Syscall, Via: event.ViaCgo}, ` cgo`},
	} {
		var out bytes.Buffer
		w := NewText(&out, testClock)
		w.Stacks(func(uint32) []event.Location { return stack })
		if err := w.Event(&test.event, gstate.Change{}); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		if got := out.String(); !strings.HasSuffix(got, test.want+"\n") {
			t.Errorf("%s: %q does not end in %q", name, got, test.want)
		}
	}
}

// Events without the stack that they should have are in the summary, if there are any.
func TestSummaryNoStack(t *testing.T) {
	s := Summary{Events: 9, NoStack: engine.NoStack{Full: 3, Unread: 4, Budget: 5}}
	line, err := s.JSON()
	if err != nil {
		t.Fatal(err)
	}
	if want := `"no_stack":{"full":3,"unread":4,"budget":5}`; !strings.Contains(string(line), want) {
		t.Errorf("%s has no %s", line, want)
	}
	if want := "; 12 without their stack (3 for too many stacks, 4 not readable, 5 to spare the target)"; !strings.Contains(s.Text(), want) {
		t.Errorf("%q has no %q", s.Text(), want)
	}
	s.NoStack = engine.NoStack{}
	if line, err = s.JSON(); err != nil || strings.Contains(string(line), "no_stack") || strings.Contains(s.Text(), "stack") {
		t.Errorf("%s, %q, %v", line, s.Text(), err)
	}
}
