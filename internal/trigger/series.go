package trigger

import "slices"

const (
	// minute is how many looks the median of a figure is taken over at most.
	minute = 60 * slots
	// enough is from how many looks on there is a median.
	enough = 10 * slots
)

// series is a figure over time.
type series struct {
	Figure
	dist *dist // of a duration

	now       float64 // at this look
	known     bool
	low, high float64 // since the look before, of counts

	remembers bool      // a factor is asked for
	past      []float64 // at the looks before, in no order once there are more than a minute's
	at        int       // the oldest of past, then
	sorted    []float64 // past, for the median
	stale     bool      // sorted is
}

// peak takes the value of a count between two looks.
func (s *series) peak(v float64) {
	if v > s.high {
		s.high = v
	}
	if v < s.low {
		s.low = v
	}
}

// restart begins the time up to the next look.
func (s *series) restart(v float64) { s.low, s.high = v, v }

// remember keeps the value of this look.
func (s *series) remember() {
	if !s.remembers || !s.known {
		return
	}
	s.stale = true
	if len(s.past) < minute {
		s.past = append(s.past, s.now)
		return
	}
	s.past[s.at] = s.now
	s.at = (s.at + 1) % minute
}

// median is that of the looks before; ok is false when there are too few.
func (s *series) median() (m float64, ok bool) {
	if len(s.past) < enough {
		return 0, false
	}
	if s.stale {
		s.sorted = append(s.sorted[:0], s.past...)
		slices.Sort(s.sorted)
		s.stale = false
	}
	return s.sorted[len(s.sorted)/2], true
}
