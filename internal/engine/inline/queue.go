package inline

import "unsafe"

// raw is a record as it was in the ring.
type raw [recordBytes / 8]uint64

// chunk is a piece of a queue: small, so that what is copied to it is still in the
// cache when it is read.
type chunk struct {
	recs [256]raw
	n    int // filled
}

// fill adds as many of the records in b as there is room for, and returns how many bytes
// that are. Another process may be changing them: what is copied is ours.
func (c *chunk) fill(b []byte) int {
	if c.n == len(c.recs) {
		return 0
	}
	room := c.recs[c.n:]
	n := copy(unsafe.Slice((*byte)(unsafe.Pointer(&room[0])), len(room)*recordBytes), b)
	c.n += n / recordBytes
	return n
}

// pool has chunks that are not in use.
type pool []*chunk

func (p *pool) get() *chunk {
	if n := len(*p); n > 0 {
		c := (*p)[n-1]
		*p = (*p)[:n-1]
		c.n = 0
		return c
	}
	return new(chunk)
}

func (p *pool) put(c *chunk) { *p = append(*p, c) }

// queue is a first-in, first-out queue of records. The zero queue is empty.
type queue []*chunk // none of them empty

// push appends the records in b.
func (q *queue) push(b []byte, free *pool) {
	for len(b) >= recordBytes {
		n := 0
		if k := len(*q); k > 0 {
			n = (*q)[k-1].fill(b)
		}
		if n == 0 {
			c := free.get()
			*q = append(*q, c)
			n = c.fill(b)
		}
		b = b[n:]
	}
}

// shift removes the first chunk; nil if there is none.
func (q *queue) shift() *chunk {
	if len(*q) == 0 {
		return nil
	}
	c := (*q)[0]
	(*q)[0] = nil
	*q = (*q)[1:]
	return c
}
