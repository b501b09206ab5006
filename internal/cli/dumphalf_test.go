package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"

	"gopherscope/internal/testenv"
)

// TestDumpHalf wants what was read before the reading ended, which here is nothing,
// with a summary that says what ended it, and the error.
func TestDumpHalf(t *testing.T) {
	p := testenv.Start(t, testenv.BuildTarget(t, "still", testenv.Build{}))
	p.WaitLine("held")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var out, errs bytes.Buffer
	term := &terminal{Stdio{Out: &out, Err: &errs}}
	err := runDump(ctx, term, &dumpOptions{operand: strconv.Itoa(p.PID()), json: true})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	var sum struct{ Type, Error string }
	if err := json.Unmarshal(out.Bytes(), &sum); err != nil {
		t.Fatalf("%v: %s", err, &out)
	}
	if sum.Type != "summary" || !strings.Contains(sum.Error, "read goroutines, 0 so far: context canceled") {
		t.Errorf("summary %+v", sum)
	}
	if !strings.HasPrefix(errs.String(), "gopherscope: 0 goroutines, ") {
		t.Errorf("said %q", &errs)
	}
}
