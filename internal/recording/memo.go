package recording

// cached is how many entries the cache in front of a memo has, a power of two.
const cached = 256

// memo numbers distinct keys from 0 on, in the order in which they come. In front of
// the map is a cache, as a few keys are most of those that come.
type memo[K comparable] struct {
	all   map[K]uint32
	cache [cached]memoEntry[K]
}

type memoEntry[K comparable] struct {
	key    K
	number uint32 // plus 1; 0 in an entry that is not used
}

// find returns the key's number. slot, of which the low bits count, is a hash of the key.
func (m *memo[K]) find(key K, slot uint64) (uint32, bool) {
	c := &m.cache[slot%cached]
	if c.number != 0 && c.key == key {
		return c.number - 1, true
	}
	n, ok := m.all[key]
	if ok {
		c.key, c.number = key, n+1
	}
	return n, ok
}

// add gives a new key the next number.
func (m *memo[K]) add(key K, slot uint64) uint32 {
	if m.all == nil {
		m.all = map[K]uint32{}
	}
	n := uint32(len(m.all))
	m.all[key] = n
	m.cache[slot%cached] = memoEntry[K]{key, n + 1}
	return n
}

func (m *memo[K]) reset() {
	clear(m.all)
	clear(m.cache[:])
}
