// Package clock relates CLOCK_MONOTONIC, which events are stamped with, to the
// wall clock, which people and other programs read.
package clock

import (
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Clock converts between the two. It is safe for concurrent use.
type Clock struct {
	offset atomic.Int64 // wall minus monotonic, ns
}

// New reads both clocks.
func New() (*Clock, error) {
	c := &Clock{}
	return c, c.Refresh()
}

// Refresh reads both clocks anew: the distance between them changes when the
// wall clock is set or slewed and when the machine is suspended.
func (c *Clock) Refresh() error {
	best, offset := int64(1<<62), int64(0)
	for range 3 { // the reading least disturbed by preemption
		before, err := read(unix.CLOCK_MONOTONIC)
		if err != nil {
			return err
		}
		wall, err := read(unix.CLOCK_REALTIME)
		if err != nil {
			return err
		}
		after, err := read(unix.CLOCK_MONOTONIC)
		if err != nil {
			return err
		}
		if after-before < best {
			best, offset = after-before, wall-(before+after)/2
		}
	}
	// Jitter of the readings themselves must not make time run backwards.
	if old := c.offset.Load(); old-offset > tolerance || offset-old > tolerance {
		c.offset.Store(offset)
	}
	return nil
}

// tolerance is the difference between two readings, in ns, that is taken for
// the readings' own error.
const tolerance = 50_000

func read(id int32) (int64, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(id, &ts); err != nil {
		return 0, fmt.Errorf("read clock: %w", err)
	}
	return ts.Nano(), nil
}

// Wall is the Unix time, in ns, of a reading of CLOCK_MONOTONIC.
func (c *Clock) Wall(mono int64) int64 { return mono + c.offset.Load() }

// Mono is the present CLOCK_MONOTONIC, in ns.
func Mono() (int64, error) { return read(unix.CLOCK_MONOTONIC) }
