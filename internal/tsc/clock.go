package tsc

import (
	"fmt"
	"math"
	"time"
)

// Clock converts time stamps into CLOCK_MONOTONIC. Each Refresh reads both, and the clock's
// times lie on a line of straight pieces that is steered towards the readings. The line
// never falls, and what has been told of it stays: a piece is only ever added, and where
// the line is off, it comes back within some 10 ms instead of jumping. It is not safe for
// concurrent use.
type Clock struct {
	knots []knot // ascending in both; the line goes through them and on after the last
	last  int    // the piece that was asked for last, and
	piece piece  // the same, until the knots change
	asked uint64 // the highest stamp that was asked for
	read  func() (anchor, error)

	now  anchor  // where the clock is known to be, as of the latest reading
	pace float64 // of the clock, ns a tick
	// Two earlier states of now, from which the pace is measured; the older one is used.
	older, newer anchor
	jumped       bool  // the latest reading was a jump
	bound        int64 // of the line at the latest reading, ns
}

// knot is a point of the line, and how steep it is from there.
type knot struct {
	tsc   uint64
	mono  int64
	perTk float64 // ns a tick
}

// piece is the line from one knot to the next. The zero piece has no stamps.
type piece struct {
	knot
	ticks uint64 // how many stamps belong to it
	most  int64  // ns: the line's end
}

// anchor is a stamp, and between what times the clock was then.
type anchor struct {
	tsc       uint64
	mono, err int64 // ns: the clock is at mono, or up to err earlier or later
}

const (
	// maxKnots is for more than a second of readings in a millisecond each, after half of
	// them were dropped.
	maxKnots = 2048
	// maxDrift is how far the clock's pace may be from the measured one. NTP slews by up to
	// 500 ppm to either side (adjtimex(2)), so in the worst case that changes by 1000, and
	// firstError comes on top.
	maxDrift   = 2000e-6
	firstError = 500e-6
	paceError  = 100e-6 // of later measurements
	// firstPace is how long the clock is watched for its first pace, and longest when its
	// readings are uncertain.
	firstPace    = 2 * time.Millisecond
	longestPace  = time.Second
	readings     = 3  // of a Refresh, of which the tightest is taken
	moreReadings = 30 // of the first ones, on which all else is built
	// paceWindow is the time over which the pace is measured, in ns. Shorter ones would
	// take the noise of a reading, up to some microseconds, for a change of pace.
	paceWindow = 250e6
	// corrected is the time in which the line is planned to come back to the clock, in ns.
	// Each reading makes a new plan, so that with many of them it takes longer.
	corrected = 5e6
	// slack is what readings may contradict each other by, in ns, without being a jump:
	// they come from several CPUs, whose counters differ a little.
	slack = 10e3
)

// NewClock takes the first readings, which needs some milliseconds. The error is ErrUnfit
// when no pace can be told from them.
func NewClock() (*Clock, error) {
	c := &Clock{}
	c.read = func() (anchor, error) {
		r, err := read(readings)
		return r.anchor(c.pace), err
	}
	a, err := read(moreReadings)
	if err != nil {
		return nil, err
	}
	for begin := time.Now(); ; {
		time.Sleep(firstPace)
		b, err := read(moreReadings)
		if err != nil {
			return nil, err
		}
		uncertain := float64(a.width/2 + b.width/2)
		if uncertain <= firstError*float64(b.tsc-a.tsc) {
			pace := float64(b.mono-a.mono) / float64(b.tsc-a.tsc)
			if err := c.begin(a.anchor(pace), b.anchor(pace)); err != nil {
				return nil, err
			}
			return c, nil
		}
		if time.Since(begin) > longestPace {
			return nil, fmt.Errorf("%w: reading the clock takes %d ticks", ErrUnfit, max(a.width, b.width))
		}
	}
}

// begin starts the line with two readings.
func (c *Clock) begin(a, b anchor) error {
	if b.tsc <= a.tsc || b.mono <= a.mono {
		return fmt.Errorf("%w: it stood still", ErrUnfit)
	}
	c.pace = between(a, b)
	c.knots = append(make([]knot, 0, maxKnots), knot{a.tsc, a.mono, c.pace}, knot{b.tsc, b.mono, c.pace})
	c.now, c.older, c.newer = b, a, a
	c.bound = b.err
	return nil
}

// between is the pace from one reading to a later one.
func between(a, b anchor) float64 { return float64(b.mono-a.mono) / float64(b.tsc-a.tsc) }

// Refresh calibrates anew. It takes some microseconds, as it makes three system calls, and
// is to be called several times a second.
//
// ErrJump says that the counter and CLOCK_MONOTONIC went apart since the last Refresh. The
// Clock is right again when it returns, and goes on. Times that were told stay the latest:
// where the clock is behind them, the line stands still until it has caught up. If the
// counter began anew, older stamps are no longer known.
func (c *Clock) Refresh() error {
	a, err := c.read()
	if err != nil {
		return err
	}
	return c.add(a)
}

// add takes a reading. The clock is where both the reading and the state before it say, so
// one that is wide because the thread was put off its CPU does no harm. If there is
// no such time, the two went apart.
func (c *Clock) add(a anchor) error {
	elapsed := float64(int64(a.tsc-c.now.tsc)) * c.pace
	expected := c.now.mono + int64(elapsed)
	margin := c.now.err + int64(math.Abs(elapsed)*maxDrift) + 1
	lo, hi := max(a.mono-a.err, expected-margin), min(a.mono+a.err, expected+margin)
	if lo > hi+slack {
		c.jump(a)
		return fmt.Errorf("%w by %v", ErrJump, time.Duration(a.mono-expected))
	}
	c.jumped = false
	if a.tsc <= c.now.tsc {
		return nil // a CPU whose counter is a little behind: nothing new
	}
	c.now = a
	if lo <= hi {
		c.now.mono, c.now.err = lo+(hi-lo)/2, (hi-lo)/2+1
	}
	c.measure()
	c.dropPlanned(a.tsc)
	c.steer(c.at(c.knots[len(c.knots)-1], a.tsc))
	return nil
}

// jump goes on from a reading that contradicts all before it, but not to before what has
// been told.
func (c *Clock) jump(a anchor) {
	limit := a.tsc // no stamp that was asked for can be after this
	anew := a.tsc <= c.now.tsc
	if anew {
		limit = c.now.tsc + uint64(float64(max(0, a.mono-c.now.mono))/c.pace)
	}
	c.dropPlanned(limit)
	told := c.Mono(max(min(c.asked, limit), c.knots[len(c.knots)-1].tsc))
	if anew {
		c.knots, c.last, c.piece, c.asked = c.knots[:0], 0, piece{}, 0
	} else if c.jumped && a.mono > c.now.mono {
		c.pace = between(c.now, a) // twice: it is the pace that is another
	}
	c.jumped = true
	c.now, c.older, c.newer = a, a, a
	c.steer(max(told, a.mono))
}

// measure sets the pace, if the time since the older state is long enough to tell.
func (c *Clock) measure() {
	since := float64(c.now.mono - c.older.mono)
	if since > paceWindow/5 && float64(c.now.err+c.older.err) < since*paceError {
		c.pace = between(c.older, c.now)
	}
	if c.now.mono-c.newer.mono > paceWindow {
		c.older, c.newer = c.newer, c.now
	}
}

// steer continues the line from mono at the latest reading: back to the clock, and then at
// its pace. A line that is far ahead stands still.
func (c *Clock) steer(mono int64) {
	ahead := mono - c.now.mono
	c.bound = max(ahead, -ahead) + c.now.err
	took := max(corrected, ahead)
	ticks := max(1, math.Ceil(float64(took)/c.pace))
	meet := max(mono, c.now.mono+int64(ticks*c.pace))
	c.push(knot{c.now.tsc, mono, float64(meet-mono) / ticks})
	c.push(knot{c.now.tsc + uint64(ticks), meet, c.pace})
}

// dropPlanned takes back what was planned for a stamp and later. The first knots stay.
func (c *Clock) dropPlanned(tsc uint64) {
	c.piece = piece{}
	if n := len(c.knots) - 1; n > 0 && c.knots[n].tsc >= tsc {
		c.knots = c.knots[:n]
		c.last = min(c.last, n-1)
	}
}

// push adds a knot. When there are too many, one straight piece replaces the older half.
func (c *Clock) push(k knot) {
	c.piece = piece{}
	if len(c.knots) == maxKnots {
		first, kept := &c.knots[0], c.knots[maxKnots/2:]
		first.perTk = float64(kept[0].mono-first.mono) / float64(kept[0].tsc-first.tsc)
		c.knots = c.knots[:1+copy(c.knots[1:], kept)]
		c.last = max(0, c.last-(maxKnots/2-1))
	}
	c.knots = append(c.knots, k)
}

func (c *Clock) at(k knot, tsc uint64) int64 {
	return k.mono + int64(float64(int64(tsc-k.tsc))*k.perTk)
}

// Mono is the time of a stamp, in ns of CLOCK_MONOTONIC. It rises with the stamp, and is
// the same whenever it is asked, for stamps up to the latest Refresh and of the 1000 before
// it. Older ones are less exact. It is fastest when the stamps rise.
func (c *Clock) Mono(tsc uint64) int64 {
	c.asked = max(c.asked, tsc)
	if p := &c.piece; tsc-p.tsc < p.ticks {
		return min(c.at(p.knot, tsc), p.most)
	}
	return c.find(tsc)
}

// find is Mono for a stamp of another piece than the last one.
func (c *Clock) find(tsc uint64) int64 {
	i := c.last
	for i > 0 && tsc < c.knots[i].tsc {
		i--
	}
	for i+1 < len(c.knots) && tsc >= c.knots[i+1].tsc {
		i++
	}
	c.last = i
	c.piece = piece{c.knots[i], math.MaxUint64 - c.knots[i].tsc, math.MaxInt64}
	if i+1 < len(c.knots) {
		next := &c.knots[i+1]
		// The line's end: a jump back to the clock, or rounding, must not go beyond it.
		c.piece.ticks, c.piece.most = next.tsc-c.piece.tsc, next.mono
	}
	return min(c.at(c.piece.knot, tsc), c.piece.most)
}

// Error is how far the time of a stamp may be from CLOCK_MONOTONIC, at most, at the moment
// of the latest Refresh. Until the next one it can grow, by up to 2 µs in a millisecond if
// NTP changes the clock's pace meanwhile. After a jump it includes by how much the
// line is ahead because of what has been told.
func (c *Clock) Error() time.Duration { return time.Duration(c.bound) }
