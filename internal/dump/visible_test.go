package dump

import (
	"strings"
	"testing"

	"gopherscope/internal/goruntime"
)

// stackOf makes frames of names; one in angle brackets is a wrapper's.
func stackOf(names string) []Frame {
	var frames []Frame
	for name := range strings.FieldsSeq(names) {
		inner := strings.Trim(name, "<>")
		frames = append(frames, Frame{Func: inner, Wrapper: inner != name})
	}
	return frames
}

func names(frames []Frame) string {
	var out []string
	for _, f := range frames {
		out = append(out, f.Func)
	}
	return strings.Join(out, " ")
}

func TestVisible(t *testing.T) {
	tests := []struct {
		name, stack, want string
		minor             int
	}{
		{"blocked", "runtime.gopark runtime.chanrecv1 main.park main.start.func1 runtime.goexit", "main.park main.start.func1", 27},
		{"exported", "runtime.gopark runtime.Gosched main.f runtime.goexit", "runtime.Gosched main.f", 27},
		{"no dot", "main.f racecall main.g", "main.f main.g", 27},
		{"hidden in the middle", "main.f runtime.deferreturn main.g main.h runtime.x main.i", "main.f main.g main.h main.i", 27},
		{"every other", "main.a runtime.x main.b runtime.x main.c runtime.x main.d", "main.a main.b main.c main.d", 27},
		{"panic", "main.deferred runtime.gopanic runtime.sigpanic main.f", "main.deferred runtime.gopanic main.f", 27},
		{"panic innermost", "runtime.gopanic main.f", "main.f", 27},
		{"panic after hidden ones", "runtime.park runtime.gopanic main.f", "main.f", 27},
		{"wrapper", "main.(*base).wait <main.derived.wait> main.dynamic", "main.(*base).wait main.dynamic", 27},
		{"wrapper that panicked", "runtime.gopanic <main.derived.wait> main.dynamic", "main.derived.wait main.dynamic", 27},
		{"wrapper with a nil receiver", "runtime.panicwrap <main.(*T).m> main.f", "main.(*T).m main.f", 27},
		{"only the runtime's", "runtime.gopark runtime.bgsweep <runtime.w> runtime.goexit", "runtime.gopark runtime.bgsweep runtime.w runtime.goexit", 27},
		{"none", "", "", 27},
		{"finalizers", "main.fin runtime.runFinalizers runtime.goexit", "main.fin runtime.runFinalizers", 25},
		{"finalizers before", "main.fin runtime.runfinq runtime.goexit", "main.fin", 24},
		{"cleanups", "main.fin runtime.runCleanups runtime.goexit", "main.fin runtime.runCleanups", 26},
		{"exported method", "runtime.(*Func).Entry main.f", "runtime.(*Func).Entry main.f", 23},
		{"exported method before", "runtime.(*Func).Entry main.f", "main.f", 22},
		{"method of an exported type", "runtime.Frames.Next main.f", "runtime.Frames.Next main.f", 23},
		{"exported method of another type", "runtime.(*timer).Stop main.f", "main.f", 23},
		{"closure in an exported function", "runtime.Goexit.func1 main.f", "main.f", 23},
		{"closure in an exported function before", "runtime.Goexit.func1 main.f", "runtime.Goexit.func1 main.f", 22},
		{"package below runtime", "runtime/pprof.Do main.f", "runtime/pprof.Do main.f", 18},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			frames := stackOf(tt.stack)
			if got := names(Visible(frames, tt.minor)); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if got := names(frames); got != strings.NewReplacer("<", "", ">", "").Replace(tt.stack) {
				t.Errorf("the stack itself is now %q", got)
			}
		})
	}
}

func TestWithoutWrappers(t *testing.T) {
	got := names(WithoutWrappers(stackOf("runtime.gopark main.f <main.w> main.g runtime.gopanic <main.w2> runtime.goexit")))
	if want := "runtime.gopark main.f main.g runtime.gopanic main.w2 runtime.goexit"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestVisibleAllocates wants no memory for the usual stack: its frames in the
// middle.
func TestVisibleAllocates(t *testing.T) {
	frames := stackOf("runtime.gopark runtime.chanrecv1 main.a main.b main.c runtime.goexit")
	if n := testing.AllocsPerRun(100, func() { Visible(frames, 27) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestCreator(t *testing.T) {
	d := &Dump{
		Version: goruntime.Version{Minor: 27},
		Sites:   []Site{{}, {Func: "main.inlined", Outer: "main.serve"}, {Outer: "runtime.gcenable"}},
	}
	for _, tt := range []struct {
		g    Goroutine
		all  bool
		want string
	}{
		{Goroutine{ID: 5, Created: 1}, false, "main.serve"},
		{Goroutine{ID: 1, Created: 1}, true, ""},
		{Goroutine{ID: 5}, true, ""},
		{Goroutine{ID: 5, Created: 2}, false, ""},
		{Goroutine{ID: 5, Created: 2}, true, "runtime.gcenable"},
	} {
		got := ""
		if s := d.Creator(&tt.g, tt.all); s != nil {
			got = s.Outer
		}
		if got != tt.want {
			t.Errorf("goroutine %d, all %v: %q, want %q", tt.g.ID, tt.all, got, tt.want)
		}
	}
}
