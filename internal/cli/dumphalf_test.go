package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
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
	term := &terminal{Stdio: Stdio{Out: &out, Err: &errs}}
	err := runDump(ctx, term, &dumpOptions{operand: strconv.Itoa(p.PID()), json: true})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	var sum struct{ Type, Error string }
	if err := json.Unmarshal(out.Bytes(), &sum); err != nil {
		t.Fatalf("%v: %s", err, &out)
	}
	if sum.Type != "summary" || !strings.Contains(sum.Error, "read goroutines, 0 so far: interrupted") {
		t.Errorf("summary %+v", sum)
	}
	if !strings.HasPrefix(errs.String(), "gopherscope: incomplete: 0 goroutines, ") {
		t.Errorf("said %q", &errs)
	}
}

// TestWaitingOnHalf wants no verdict on goroutines of which some are missing.
func TestWaitingOnHalf(t *testing.T) {
	p := testenv.Start(t, testenv.BuildTarget(t, "still", testenv.Build{}))
	p.WaitLine("held")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	path := filepath.Join(t.TempDir(), "out")
	var out, errs bytes.Buffer
	term := &terminal{Stdio: Stdio{Out: &out, Err: &errs}}
	err := runDump(ctx, term, &dumpOptions{operand: strconv.Itoa(p.PID()), waiting: true, output: path})
	if !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "output") {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is there: %v", err)
	}
	const want = "gopherscope: incomplete: 0 goroutines read; what they wait on is not known\n"
	if errs.String() != want {
		t.Errorf("said %q", &errs)
	}
	err = runDump(ctx, term, &dumpOptions{operand: strconv.Itoa(p.PID()), waiting: true, json: true})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	var sum map[string]any
	if err := json.Unmarshal(out.Bytes(), &sum); err != nil {
		t.Fatalf("%v: %s", err, &out)
	}
	text, _ := sum["error"].(string)
	_, judged := sum["cycles"]
	if sum["type"] != "summary" || sum["pid"] != float64(p.PID()) || !strings.HasSuffix(text, ": interrupted") || judged {
		t.Errorf("summary %v", sum)
	}
}
