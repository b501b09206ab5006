package snapshot

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/process"
	"gopherscope/internal/target"
	"gopherscope/internal/testenv"
)

// TestLabelReader holds what it reads of a program that stands still to what the program says.
func TestLabelReader(t *testing.T) {
	for _, build := range []testenv.Build{{Go: "1.18"}, {Go: "1.23", Stripped: true}, {Go: "1.24", PIE: true}, {Go: "1.27", Stripped: true}} {
		t.Run(build.String(), func(t *testing.T) {
			t.Parallel()
			p := testenv.Start(t, testenv.BuildTarget(t, "still", build))
			p.WaitLine("held")
			proc, err := process.Open(p.PID())
			if err != nil {
				t.Fatal(err)
			}
			defer proc.Close()
			tg, err := target.Open(proc)
			if err != nil {
				t.Fatal(err)
			}
			defer tg.Close()
			l, err := NewLabelReader(tg)
			if err != nil {
				t.Fatal(err)
			}
			want := saidLabels(t, p)
			read := map[uint64]string{}
			statuses := map[goruntime.Status]int{}
			found := func(goid uint64, status goruntime.Status, set *event.LabelSet) {
				for _, one := range set.Labels {
					read[goid] += fmt.Sprintf("%q %q;", one.Key, one.Value)
				}
				statuses[status]++
			}
			ids := []uint64{1 << 40} // which there is not
			for goid := range want {
				ids = append(ids, goid)
			}
			if unknown, err := l.Read(ids, found); !unknown || err != nil || len(statuses) > 0 {
				t.Fatalf("before a search: unknown %v, %v, found %v", unknown, err, statuses)
			}
			for done := false; !done; {
				if done, err = l.Search(); err != nil {
					t.Fatal(err)
				}
			}
			if unknown, err := l.Read(ids, found); !unknown || err != nil {
				t.Fatalf("unknown %v, %v", unknown, err)
			}
			if len(want) < 3 || statuses[goruntime.Waiting] < 3 {
				t.Errorf("%d goroutines with labels, %v", len(want), statuses)
			}
			for goid, labels := range want {
				if read[goid] != labels {
					t.Errorf("goroutine %d has %q, read %q", goid, labels, read[goid])
				}
			}
			l.Know(1<<40, l.addr[ids[1]]) // a g struct that is another goroutine's by now
			clear(statuses)
			if unknown, err := l.Read(ids[:1], found); !unknown || err != nil || len(statuses) > 0 {
				t.Errorf("another's g struct: unknown %v, %v, found %v", unknown, err, statuses)
			}
			p.Kill()
			for end := time.Now().Add(10 * time.Second); err == nil && time.Now().Before(end); {
				_, err = l.Read(ids[1:], func(uint64, goruntime.Status, *event.LabelSet) {})
			}
			if !errors.Is(err, process.ErrExited) {
				t.Errorf("after its end: %v", err)
			}
		})
	}
}

// saidLabels are the labels of goroutines as the program still says them.
func saidLabels(t *testing.T, p *testenv.Process) map[uint64]string {
	t.Helper()
	p.WriteLine("labels")
	said := map[uint64]string{}
	for {
		line, ok := p.ReadLine()
		if !ok {
			t.Fatal("the program ended")
		}
		if line == "end" {
			return said
		}
		rest, ok := strings.CutPrefix(line, "label ")
		if !ok {
			continue
		}
		id, pair, _ := strings.Cut(rest, " ")
		var goid uint64
		if _, err := fmt.Sscan(id, &goid); err != nil {
			t.Fatal(err)
		}
		said[goid] += pair + ";"
	}
}
