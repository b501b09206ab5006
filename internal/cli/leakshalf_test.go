package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"gopherscope/internal/testenv"
)

// TestLeaksHalf interrupts a watch before it has a snapshot: it must not look as if
// it had found no suspects.
func TestLeaksHalf(t *testing.T) {
	p := testenv.Start(t, testenv.BuildTarget(t, "still", testenv.Build{}))
	p.WaitLine("held")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, asJSON := range []bool{false, true} {
		var out, errs bytes.Buffer
		term := &terminal{Stdio: Stdio{Out: &out, Err: &errs}}
		err := runLeaks(ctx, term, &leaksOptions{operand: strconv.Itoa(p.PID()), duration: time.Minute, min: 1, json: asJSON})
		if !errors.Is(err, context.Canceled) || !strings.HasPrefix(err.Error(), "no snapshot is complete: ") {
			t.Errorf("error %v", err)
		}
		if !asJSON {
			if out.Len() > 0 {
				t.Errorf("wrote %s", &out)
			}
			continue
		}
		var sum struct {
			Type, Error string
			PID         int
			Snapshots   *int
		}
		if err := json.Unmarshal(out.Bytes(), &sum); err != nil {
			t.Fatalf("%v: %s", err, &out)
		}
		if sum.Type != "summary" || sum.PID != p.PID() || sum.Snapshots == nil || *sum.Snapshots != 0 || sum.Error != "no snapshot is complete: interrupted" {
			t.Errorf("summary %s", &out)
		}
	}
}
