package snapshot

import (
	"bytes"
	"slices"

	"gopherscope/internal/dump"
	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/process"
	"gopherscope/internal/target"
)

// LabelReader reads the pprof labels of single goroutines while the process runs on. What it
// finds of a goroutine is right if that did not run meanwhile, which the caller has to
// know. It is not safe for concurrent use.
type LabelReader struct {
	r      *reader
	addr   map[uint64]uint64 // of the g structs, by goid: where the goroutine was once
	fields []field           // of g: what is looked at
	lo, hi uint32            // the part of g that has them

	sets map[dump.LabelsID]*event.LabelSet
	size int // bytes in sets

	next   map[uint64]uint64 // what the search under way has found
	search []uint64          // g structs that the search under way has still to read; nil if there is none
	mem    [2][]byte
	reads  []process.MemRead
}

// Bounds on the sets of labels that are kept so that equal ones are read into one.
const (
	maxLabelSets  = 1 << 14
	maxLabelBytes = 8 << 20
)

// NewLabelReader returns a LabelReader for the goroutines of t, which must have a memory and is
// kept.
func NewLabelReader(t *target.Target) (*LabelReader, error) {
	r, err := newReader(t, &Options{})
	if err != nil {
		return nil, err
	}
	l := &LabelReader{r: r, addr: map[uint64]uint64{}, sets: map[dump.LabelsID]*event.LabelSet{}}
	l.fields = []field{{r.l.Status, 4}, {r.l.GoID, 8}, {r.l.Labels, 8}, {r.l.TrackingSeq, 1}}
	l.lo = r.l.Size
	for _, f := range l.fields {
		l.lo, l.hi = min(l.lo, f.off), max(l.hi, f.off+f.size)
	}
	return l, nil
}

// Know says where a goroutine's g struct is ([dump.Goroutine.Addr]), which saves the search for it.
func (l *LabelReader) Know(goid, addr uint64) { l.addr[goid] = addr }

// Search looks for the g structs of all goroutines, some thousands a call. It is done when
// a call has read the last of those that there were at the first; the next one begins anew. An error
// is that the process is gone or not to be read: a list that was moved while it was read, can be tried again.
func (l *LabelReader) Search() (done bool, err error) {
	if l.search == nil {
		if l.search, err = l.r.allgs(); err != nil {
			l.search = nil
			return true, fatal(err)
		}
		l.next = map[uint64]uint64{}
	}
	chunk := slices.Clone(l.search[:min(len(l.search), chunkSize)])
	l.search = l.search[len(chunk):]
	slices.Sort(chunk)
	chunk = slices.Compact(chunk)
	gs, err := l.r.readGs(chunk, &l.r.gs[0])
	if err != nil {
		return true, fatal(err)
	}
	for i, g := range gs {
		if g != nil && alive(l.r.status(g)) {
			goid := word(g, l.r.l.GoID)
			l.addr[goid], l.next[goid] = chunk[i], chunk[i]
		}
	}
	if len(l.search) == 0 {
		l.search = nil
		l.addr, l.next = l.next, nil // without those that have ended
		return true, nil
	}
	return false, nil
}

// fatal is the error if no other attempt can do better.
func fatal(err error) error {
	if ends(err) {
		return err
	}
	return nil
}

// Read reads the labels of goroutines and passes on those that it could read, with the
// goroutine's status, in the order of goids. unknown says that it does not know where one or more of the goroutines are,
// which a [LabelReader.Search] can tell. An error is that the process is gone or not
// to be read; before it, none of the goroutines was passed on.
func (l *LabelReader) Read(goids []uint64, found func(goid uint64, status goruntime.Status, set *event.LabelSet)) (unknown bool, err error) {
	known := make([]uint64, 0, len(goids))
	for _, goid := range goids {
		if l.addr[goid] != 0 {
			known = append(known, goid)
		}
	}
	unknown = len(known) < len(goids)
	before, err := l.readGs(known, 0)
	if err != nil {
		return unknown, err
	}
	for i, g := range before {
		if g != nil && word(g, l.r.l.GoID) != known[i] {
			delete(l.addr, known[i]) // the g struct is another goroutine's by now
			unknown = true
			before[i] = nil
		}
	}
	sets, err := l.setsOf(before)
	if err != nil {
		return unknown, err
	}
	after, err := l.readGs(known, 1)
	if err != nil {
		return unknown, err
	}
	for i := range known {
		if before[i] == nil || after[i] == nil || !l.unmoved(before[i], after[i]) {
			continue
		}
		if set := sets[word(after[i], l.r.l.Labels)]; set != nil {
			found(known[i], l.r.status(after[i]), set)
		}
	}
	return unknown, nil
}

// readGs reads the fields of g structs; nil for one that cannot be read. Of the slices, whose offsets are those of g, only the fields are
// valid, and until the next call with the same number.
func (l *LabelReader) readGs(goids []uint64, number int) ([][]byte, error) {
	size := int(l.hi)
	if cap(l.mem[number]) < size*len(goids) {
		l.mem[number] = make([]byte, size*len(goids))
	}
	gs := make([][]byte, len(goids))
	l.reads = l.reads[:0]
	for i, goid := range goids {
		gs[i] = l.mem[number][i*size : (i+1)*size : (i+1)*size]
		l.reads = append(l.reads, process.MemRead{Addr: l.addr[goid] + uint64(l.lo), Buf: gs[i][l.lo:]})
	}
	for done := 0; done < len(l.reads); {
		n, err := l.r.t.Mem.ReadMany(l.reads[done:])
		if done += n; err == nil {
			break
		}
		if ends(err) {
			return nil, err
		}
		gs[done] = nil
		done++
	}
	return gs, nil
}

// unmoved says whether two readings of a g struct can be of the same stay of the goroutine at one place.
func (l *LabelReader) unmoved(before, after []byte) bool {
	if l.r.status(before) != l.r.status(after) {
		return false
	}
	for _, f := range l.fields[1:] {
		if !bytes.Equal(before[f.off:f.off+f.size], after[f.off:f.off+f.size]) {
			return false
		}
	}
	return true
}

// setsOf reads the labels that g structs point to, by address. Those that make no sense are left out.
func (l *LabelReader) setsOf(gs [][]byte) (map[uint64]*event.LabelSet, error) {
	if len(l.sets) > maxLabelSets || l.size > maxLabelBytes {
		l.r.labels, l.size = newLabels(l.r.t), 0
		clear(l.sets)
	}
	sets := map[uint64]*event.LabelSet{}
	for _, g := range gs {
		if g == nil {
			continue
		}
		ptr := word(g, l.r.l.Labels)
		if _, ok := sets[ptr]; ok {
			continue
		}
		var pairs []dump.Label
		if ptr != 0 {
			var err error
			if pairs, err = l.r.labels.at(ptr); ends(err) {
				return nil, err
			} else if err != nil {
				sets[ptr] = nil
				continue
			}
		}
		sets[ptr] = l.set(l.r.labels.intern(pairs))
	}
	return sets, nil
}

// set is the set of labels with that number.
func (l *LabelReader) set(id dump.LabelsID) *event.LabelSet {
	s := l.sets[id]
	if s == nil {
		s = LabelSet(l.r.labels.sets[id])
		l.sets[id] = s
		for _, one := range s.Labels {
			l.size += len(one.Key) + len(one.Value)
		}
	}
	return s
}

// LabelSet is the labels of a goroutine of a Dump as an event has them.
func LabelSet(labels []dump.Label) *event.LabelSet {
	s := &event.LabelSet{}
	for _, l := range labels {
		s.Labels = append(s.Labels, event.Label(l))
	}
	return s
}
