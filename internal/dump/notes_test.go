package dump

import "testing"

// What is known of a wait is the next note after its own.
func TestNotes(t *testing.T) {
	var d Dump
	for _, since := range []int64{300, 0, 100, 300, 200, 100} {
		d.Goroutines = append(d.Goroutines, Goroutine{WaitSince: since})
	}
	n := d.Notes()
	for noted, want := range map[int64]int64{0: 0, 100: 200, 150: 200, 200: 300, 300: 0} {
		if got := n.After(noted); got != want {
			t.Errorf("%d: %d, want %d", noted, got, want)
		}
	}
}
