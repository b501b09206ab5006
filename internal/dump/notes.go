package dump

import "slices"

// Notes are the moments that the runtime has noted of the goroutines of a Dump that wait, each
// once and in ascending order.
//
// Such a moment is not the wait's begin, nor is it after that. It is the end of the last mark before
// the one that first found the goroutine waiting (work.tstart, which only gcMark sets, at the end of a
// mark; runtime/mgcmark.go, markroot; runtime/mgc.go, gcMark; Go 1.18 to 1.27). So the wait can be
// as much shorter as it takes from one collection to the next. But a later moment that another
// goroutine has is the end of that mark or of one after it, and by then the goroutine waited.
type Notes []int64

// Notes collects them. The goroutines may be selected ones, but more are known of all.
func (d *Dump) Notes() Notes {
	var n Notes
	for i := range d.Goroutines {
		since := d.Goroutines[i].WaitSince
		if k := len(n); since != 0 && (k == 0 || n[k-1] != since) {
			n = append(n, since)
		}
	}
	slices.Sort(n)
	return slices.Compact(n)
}

// After is a moment, CLOCK_MONOTONIC in ns, at which a goroutine with such a note surely waited; 0 if
// none is known.
func (n Notes) After(noted int64) int64 {
	if i, _ := slices.BinarySearch(n, noted+1); noted > 0 && i < len(n) {
		return n[i]
	}
	return 0
}
