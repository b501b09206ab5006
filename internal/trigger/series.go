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

	now      bounds // at this look
	known    bool
	min, max bounds // since the look before, of counts

	remembers bool      // a factor is asked for
	past      []float64 // at the looks before, in no order once there are more than a minute's
	at        int       // the oldest of past, then
	sorted    []float64 // past, for the median
	stale     bool      // sorted is
}

// bounds are what a value is: least and most differ for a count after a gap, as long as it is
// not known of some goroutines whether they are there.
type bounds struct{ least, most float64 }

// exactly is a value that is known.
func exactly(v float64) bounds { return bounds{v, v} }

// peak takes the value of a count between two looks.
func (s *series) peak(v bounds) {
	s.max = bounds{max(s.max.least, v.least), max(s.max.most, v.most)}
	s.min = bounds{min(s.min.least, v.least), min(s.min.most, v.most)}
}

// restart begins the time up to the next look.
func (s *series) restart(v bounds) { s.min, s.max = v, v }

// remember keeps the value of this look, if that is one.
func (s *series) remember() {
	if !s.remembers || !s.known || s.now.least != s.now.most {
		return
	}
	s.stale = true
	if len(s.past) < minute {
		s.past = append(s.past, s.now.least)
		return
	}
	s.past[s.at] = s.now.least
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
