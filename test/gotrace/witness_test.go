package gotrace_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/exp/trace"

	"gopherscope/internal/testenv"
	"gopherscope/test/traced"
)

// span is the time in which Go's own trace has changes of a goroutine. What it was before,
// Go's trace does not say, or says without a reason.
type span struct{ from, to int64 }

// TestWitness traces a program that records its own execution trace, and compares the two:
// for each goroutine the time that it ran, waited to run, was in system calls, and waited
// for each reason.
//
// The two tracers do not look at the same instant: theirs writes before or after the
// change of status, and between the two the thread can be put off its CPU. So an account
// may differ by a twentieth, or 100 us, or some microseconds a change; and a few may differ
// by more.
func TestWitness(t *testing.T) {
	for _, test := range []struct {
		engine traced.Engine
		build  testenv.Build
		change int64 // ns that a change may be apart
	}{
		{traced.Inline, testenv.Build{Go: "1.26", Cgo: true}, 1_000},
		{traced.EBPF, testenv.Build{Go: "1.23"}, 20_000},
	} {
		if test.engine == traced.Inline && len(traced.Engines()) < 2 {
			continue
		}
		t.Run(string(test.engine)+"/"+test.build.String(), func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "go.trace")
			tr := test.engine.Launch(t, "tracewit", test.build, file, "30")
			whole(t, tr)
			theirs, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, convert(t, tr), theirs, test.change)
		})
	}
}

// spans are those of all goroutines of Go's own trace.
func spans(t *testing.T, data []byte) map[trace.GoID]span {
	t.Helper()
	of := map[trace.GoID]span{}
	readAll(t, bytes.NewReader(data), func(ev *trace.Event) {
		if ev.Kind() != trace.EventStateTransition || ev.StateTransition().Resource.Kind != trace.ResourceGoroutine {
			return
		}
		st := ev.StateTransition()
		id := st.Resource.Goroutine()
		if from, to := st.Goroutine(); from == to || from == trace.GoUndetermined {
			return
		}
		s, ok := of[id]
		if !ok {
			s.from = int64(ev.Time())
		}
		s.to = int64(ev.Time())
		of[id] = s
	})
	return of
}

func compare(t *testing.T, ours, theirs []byte, change int64) {
	within := spans(t, theirs)
	a, b := newAccounts(0, 0), newAccounts(0, 0)
	a.within, b.within = within, within
	readAll(t, bytes.NewReader(ours), a.add)
	readAll(t, bytes.NewReader(theirs), b.add)
	compared, apart, changes := 0, 0, 0
	for id, their := range b.of {
		our := a.of[id]
		if s := within[id]; our == nil && s.to-s.from < 100_000 {
			continue // the times of its few changes differ by more
		}
		if our == nil {
			t.Errorf("goroutine %d is in Go's trace only", id)
			continue
		}
		for state := range union(our.time, their.time) {
			compared++
			changes += their.times[state]
			may := 2
			if state == "Runnable" {
				may += their.times["Syscall"] // one that ended on another P of which nothing more is known
			}
			if n := our.times[state] - their.times[state]; n < -may || n > may {
				t.Errorf("goroutine %d was %q %d times, and we say %d", id, state, their.times[state], our.times[state])
			}
			d := max(our.time[state]-their.time[state], their.time[state]-our.time[state])
			if d > max(100_000, their.time[state]/20, change*int64(their.times[state])) {
				apart++
				t.Logf("goroutine %d was %q for %d ns, and we say %d (%d times)", id, state, their.time[state], our.time[state], their.times[state])
			}
		}
	}
	t.Logf("%d accounts of %d goroutines, %d changes: %d apart", compared, len(b.of), changes, apart)
	if compared < 100 || apart > compared/5 {
		t.Errorf("%d of %d accounts are apart", apart, compared)
	}
}

func union(a, b map[string]int64) map[string]bool {
	all := map[string]bool{}
	for k := range a {
		all[k] = true
	}
	for k := range b {
		all[k] = true
	}
	return all
}
