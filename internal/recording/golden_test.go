package recording

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"gopherscope/internal/event"
	"gopherscope/internal/testenv"
)

// TestGolden opens a recording that the first version of the format made, of a real
// program (testdata/testprog/netecho, by the inline engine with stacks). The recording must
// never be made anew: those that users have would not be either.
func TestGolden(t *testing.T) {
	file, err := os.ReadFile("testdata/v1.0.gscope")
	if err != nil {
		t.Fatal(err)
	}
	r := open(t, file)
	var text bytes.Buffer
	i := r.Info()
	fmt.Fprintf(&text, "# %s %s %s, PID %d, %s %q, %d procs, stacks %v, begins at %d, wall clock %d\n",
		i.Engine, i.GoVersion, i.Arch, i.PID, i.Exe, i.Command, i.Procs, i.Stacks, i.Begin, i.Wall)
	shown := map[uint32]bool{}
	err = r.Run(t.Context(), func(e *event.Event) error {
		fmt.Fprintf(&text, "%s\n", event.AppendText(nil, e))
		if e.Stack != 0 && !shown[e.Stack] {
			shown[e.Stack] = true
			fmt.Fprintf(&text, "# stack %d: %v\n", e.Stack, r.Stack(e.Stack))
		}
		return nil
	}, func(now int64) error {
		fmt.Fprintf(&text, "# tick %d, wall clock %d\n", now, r.Wall(now))
		return nil
	})
	if err != nil || !r.Complete() {
		t.Fatalf("%v, complete %v", err, r.Complete())
	}
	totals, _ := r.Totals()
	fmt.Fprintf(&text, "# ends at %d, %d lost, %d hits, cost %v, target's CPU time %v\n", totals.Now, totals.Lost.Total(), totals.Cost.Hits.Inline, totals.Cost.Total, totals.TargetCPU)
	testenv.Golden(t, "testdata/v1.0.txt", text.Bytes())
}
