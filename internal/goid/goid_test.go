package goid

import (
	"math/rand/v2"
	"testing"
)

func TestMap(t *testing.T) {
	var m Map[int]
	want := map[uint64]int{}
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 200000 {
		id := rng.Uint64N(2000) // several to an entry of the cache
		switch rng.IntN(3) {
		case 0:
			*m.Put(id) = i
			want[id] = i
		case 1:
			m.Delete(id)
			delete(want, id)
		}
		got := m.Get(id)
		value, ok := want[id]
		if ok != (got != nil) || ok && *got != value {
			t.Fatalf("step %d: goroutine %d has %v, want %v %v", i, id, got, value, ok)
		}
	}
}
