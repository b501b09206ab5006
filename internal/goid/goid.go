// Package goid has a map by goroutine id that is fast for the few goroutines that make
// most of the changes.
package goid

// cached is how many entries the cache in front of a Map has, a power of two. Goroutines
// that are at work together have ids close to each other.
const cached = 256

// Map holds one V for each goroutine id. It is not safe for concurrent use. The zero Map
// is empty and ready.
type Map[V any] struct {
	all   map[uint64]*V
	cache [cached]entry[V]
}

type entry[V any] struct {
	goid  uint64
	value *V // nil in an entry that is not used
}

// Get is the value of a goroutine, to be changed in place; nil if there is none.
func (m *Map[V]) Get(goid uint64) *V {
	c := &m.cache[goid%cached]
	if c.goid == goid && c.value != nil {
		return c.value
	}
	v := m.all[goid]
	if v != nil {
		*c = entry[V]{goid, v}
	}
	return v
}

// Put is Get, but makes a zero value if there is none.
func (m *Map[V]) Put(goid uint64) *V {
	if v := m.Get(goid); v != nil {
		return v
	}
	if m.all == nil {
		m.all = map[uint64]*V{}
	}
	v := new(V)
	m.all[goid] = v
	m.cache[goid%cached] = entry[V]{goid, v}
	return v
}

// Delete removes the value of a goroutine.
func (m *Map[V]) Delete(goid uint64) {
	if c := &m.cache[goid%cached]; c.goid == goid {
		*c = entry[V]{}
	}
	delete(m.all, goid)
}

// Retain removes the values for which keep is false. keep may change them.
func (m *Map[V]) Retain(keep func(goid uint64, v *V) bool) {
	for goid, v := range m.all {
		if !keep(goid, v) {
			m.Delete(goid)
		}
	}
}
