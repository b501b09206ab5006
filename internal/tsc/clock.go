package tsc

import (
	"fmt"
	"math"
	"time"
)

// Clock converts time stamps into CLOCK_MONOTONIC. It is calibrated continuously: each
// Refresh adds a reading of both, and what lies between two readings is
// interpolated, so that it follows the clock when NTP changes its pace. It is not safe for
// concurrent use.
type Clock struct {
	knots []knot // ascending; the line goes through them and on after the last
	last  int    // the segment that was asked for last
	read  func() (anchor, error)
	bound int64 // of the latest reading, ns
	// Two earlier readings from which the pace is measured; the older one is used.
	older, newer anchor
}

// knot is a point of the line, and how steep it is from there.
type knot struct {
	tsc   uint64
	mono  int64
	perTk float64 // ns a tick
}

const (
	maxKnots = 512
	// maxDrift is how far the pace may be from the one of the beginning: NTP slews by up
	// to 500 ppm (adjtimex(2)), and the counter's rate is not known better at first.
	maxDrift = 2000e-6
	// readings make an anchor, the tightest of them.
	readings = 3
	// paceWindow is the time over which the pace is measured, in ns, and corrected the
	// time in which the line comes half the way back to the clock. Shorter ones would take
	// the noise of a reading, up to some microseconds, for a change of pace.
	paceWindow = 250e6
	corrected  = 5e6
	// firstPace is how long the clock is watched for its first pace.
	firstPace = 2 * time.Millisecond
)

// NewClock takes the first readings, within some milliseconds.
func NewClock() (*Clock, error) {
	c := &Clock{read: func() (anchor, error) { return read(readings) }}
	a, err := read(10 * readings)
	if err != nil {
		return nil, err
	}
	time.Sleep(firstPace)
	b, err := read(10 * readings)
	if err != nil {
		return nil, err
	}
	return c, c.begin(a, b)
}

// begin starts the line with two readings.
func (c *Clock) begin(a, b anchor) error {
	if b.tsc <= a.tsc || b.mono <= a.mono {
		return fmt.Errorf("%w: it stood still", ErrUnfit)
	}
	pace := float64(b.mono-a.mono) / float64(b.tsc-a.tsc)
	c.knots = []knot{{a.tsc, a.mono, pace}, {b.tsc, b.mono, pace}}
	c.bound = max(a.err, b.err)
	c.older, c.newer = a, a
	return nil
}

// Refresh calibrates anew. It takes a microsecond or two and is to be called several
// times a second. ErrJump says that the counter and the clock went apart; the line
// goes on from the new reading, and times before it are as they were.
func (c *Clock) Refresh() error {
	a, err := c.read()
	if err != nil {
		return err
	}
	return c.add(a)
}

// add continues the line from where it is at the time of the reading, at the pace of
// the clock and towards it. It stays continuous and never runs backwards.
func (c *Clock) add(a anchor) error {
	last := c.knots[len(c.knots)-1]
	if a.tsc <= last.tsc {
		return nil
	}
	now := c.at(last, a.tsc)
	first := c.knots[0].perTk
	elapsed := float64(a.tsc-last.tsc) * first
	off := float64(a.mono - now)
	jumped := math.Abs(off) > elapsed*maxDrift+float64(a.err+c.bound)+10e3
	c.bound = a.err
	if jumped {
		c.older, c.newer = a, a
		c.push(knot{a.tsc, max(a.mono, now), first}) // the past must not be told twice
		return fmt.Errorf("%w by %v", ErrJump, time.Duration(off))
	}
	pace := last.perTk
	if since := float64(a.mono - c.older.mono); since > paceWindow/5 {
		pace = since / float64(a.tsc-c.older.tsc)
	}
	if a.mono-c.newer.mono > paceWindow {
		c.older, c.newer = c.newer, a
	}
	pace += off / (max(elapsed, corrected) / first) / 2
	pace = min(max(pace, first*(1-maxDrift)), first*(1+maxDrift))
	c.push(knot{a.tsc, now, pace})
	return nil
}

// push adds a knot. Old ones are thinned out: events that come late ask for the last
// few milliseconds only.
func (c *Clock) push(k knot) {
	if len(c.knots) == maxKnots {
		kept := c.knots[:1]
		for i := 2; i < maxKnots/2; i += 2 {
			kept = append(kept, c.knots[i])
		}
		kept = append(kept, c.knots[maxKnots/2:]...)
		c.knots = kept
		c.last = 0
		c.straighten()
	}
	c.knots = append(c.knots, k)
}

// straighten makes the slopes go from knot to knot again.
func (c *Clock) straighten() {
	for i := 1; i+1 < len(c.knots); i++ {
		a, b := &c.knots[i], c.knots[i+1]
		a.perTk = float64(b.mono-a.mono) / float64(b.tsc-a.tsc)
	}
}

func (c *Clock) at(k knot, tsc uint64) int64 {
	return k.mono + int64(float64(int64(tsc-k.tsc))*k.perTk)
}

// Mono is the time of a stamp, in ns. It rises with the stamp.
func (c *Clock) Mono(tsc uint64) int64 {
	i := c.last
	for i > 0 && tsc < c.knots[i].tsc {
		i--
	}
	for i+1 < len(c.knots) && tsc >= c.knots[i+1].tsc {
		i++
	}
	c.last = i
	at := c.at(c.knots[i], tsc)
	if i+1 < len(c.knots) {
		at = min(at, c.knots[i+1].mono) // rounding
	}
	return at
}

// Error is how far a time of now may be from the clock.
func (c *Clock) Error() time.Duration { return time.Duration(c.bound) }
