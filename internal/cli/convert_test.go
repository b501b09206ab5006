package cli

import (
	"math"
	"testing"
	"time"

	"gopherscope/internal/stream"
)

// clocked is a Source of which only the clocks are asked. Its wall clock was set forward by
// a second, ten seconds after the trace began.
type clocked struct {
	stream.Source
	info stream.Info
}

func (c *clocked) Info() *stream.Info { return &c.info }

func (c *clocked) Wall(mono int64) int64 {
	wall := c.info.Wall + mono - c.info.Begin
	if mono-c.info.Begin >= int64(10*time.Second) {
		wall += int64(time.Second)
	}
	return wall
}

func TestMoment(t *testing.T) {
	const begin = int64(5_000_000_000_000)
	for _, tt := range []struct {
		start, text string
		want        time.Duration // after the begin
	}{
		{"15:00:00", "10s", 10 * time.Second},
		{"15:00:00", "1m0.5s", 60500 * time.Millisecond},
		{"15:00:00", "15:00:05", 5 * time.Second},
		{"15:00:00", "15:00:05.25", 5250 * time.Millisecond},
		{"15:00:00", "15:01", 59 * time.Second}, // the clock was set
		{"15:00:00", "14:59:00", -time.Minute},
		{"23:59:58", "00:00:01", 3 * time.Second},
		{"00:00:01", "23:59:59", 24*time.Hour - 3*time.Second},
		{"15:00:00", "2562047h47m", time.Duration(math.MaxInt64 - begin)}, // 292 years
	} {
		start, err := time.ParseInLocation(time.DateTime, "2026-11-24 "+tt.start, time.Local)
		if err != nil {
			t.Fatal(err)
		}
		src := &clocked{info: stream.Info{Begin: begin, Wall: start.UnixNano()}}
		m, err := parseMoment("--from", tt.text)
		if err != nil {
			t.Errorf("%s: %v", tt.text, err)
			continue
		}
		if got := time.Duration(m.in(src) - begin); got != tt.want {
			t.Errorf("%s in a trace that begins at %s: after %v, want %v", tt.text, tt.start, got, tt.want)
		}
	}
	for _, text := range []string{"x", "10", "-5s", "24:00:00", "1:2:3:4", "12:60"} {
		if _, err := parseMoment("--from", text); !isUsage(err) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
