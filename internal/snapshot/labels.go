package snapshot

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"gopherscope/internal/dump"
	"gopherscope/internal/process"
	"gopherscope/internal/target"
)

// Bounds on the pprof labels of one goroutine. What exceeds them is left out.
const (
	maxLabels      = 128
	maxLabelText   = 1 << 10
	maxLabelChain  = 16 // overflow buckets of a map
	maxLabelBucket = 5  // log2 of the buckets of a map
)

// labels reads and collects pprof labels. The runtime keeps a pointer that only
// package runtime/pprof knows the type of: up to Go 1.23 a *map[string]string,
// from 1.24 on a pointer to a slice of pairs of strings (runtime/pprof/label.go,
// labelMap). What it points to is never written to again, and lives as long as a
// goroutine has the pointer: what was read is right if the goroutine has the same
// pointer before and after.
type labels struct {
	mem   process.Memory
	isMap bool
	sets  [][]dump.Label
	known map[string]dump.LabelsID // by content
	byPtr map[uint64]dump.LabelsID // of the goroutines that are being read; 0 where they made no sense
}

func newLabels(t *target.Target) labels {
	return labels{
		mem: t.Mem, isMap: t.Bin.Version().Minor <= 23,
		sets: make([][]dump.Label, 1), known: map[string]dump.LabelsID{}, byPtr: map[uint64]dump.LabelsID{},
	}
}

// labelPointers are the addresses of the labels of goroutines.
func (r *reader) labelPointers(ps []pending) []uint64 {
	var ptrs []uint64
	for i := range ps {
		if ptr := word(ps[i].g, r.l.Labels); ptr != 0 {
			ptrs = append(ptrs, ptr)
		}
	}
	slices.Sort(ptrs)
	return slices.Compact(ptrs)
}

// read reads the labels at each address, and forgets those read before.
func (l *labels) read(ptrs []uint64) error {
	clear(l.byPtr)
	for _, ptr := range ptrs {
		set, err := l.at(ptr)
		if ends(err) {
			return err
		}
		// Labels that cannot be read are those of a goroutine that has others by
		// now, or none that package runtime/pprof made: it is shown without.
		l.byPtr[ptr] = 0
		if err == nil {
			l.byPtr[ptr] = l.intern(set)
		}
	}
	return nil
}

// of is the number of the labels at ptr; 0 if they were not read.
func (l *labels) of(ptr uint64) dump.LabelsID { return l.byPtr[ptr] }

// have says whether the labels at ptr were looked at, or there are none.
func (l *labels) have(ptr uint64) bool {
	_, ok := l.byPtr[ptr]
	return ok || ptr == 0
}

func (l *labels) intern(set []dump.Label) dump.LabelsID {
	if len(set) == 0 {
		return 0
	}
	slices.SortFunc(set, func(a, b dump.Label) int {
		return cmp.Or(strings.Compare(a.Key, b.Key), strings.Compare(a.Value, b.Value))
	})
	var content strings.Builder
	for _, one := range set {
		content.WriteString(one.Key + "\x00" + one.Value + "\x00")
	}
	id, ok := l.known[content.String()]
	if !ok {
		id = dump.LabelsID(len(l.sets))
		l.sets = append(l.sets, set)
		l.known[content.String()] = id
	}
	return id
}

func (l *labels) at(ptr uint64) ([]dump.Label, error) {
	var heads []byte // of strings: key and value in turn
	var err error
	if l.isMap {
		heads, err = l.mapStrings(ptr)
	} else {
		heads, err = l.sliceStrings(ptr)
	}
	if err != nil || len(heads) == 0 {
		return nil, err
	}
	return l.texts(heads)
}

// Sizes of the headers of strings and slices.
const (
	stringSize = 16
	sliceSize  = 24
)

func (l *labels) sliceStrings(ptr uint64) ([]byte, error) {
	var head [sliceSize]byte
	if err := l.mem.ReadMem(ptr, head[:]); err != nil {
		return nil, err
	}
	n := min(binary.LittleEndian.Uint64(head[8:]), maxLabels)
	heads := make([]byte, n*2*stringSize)
	return heads, l.mem.ReadMem(binary.LittleEndian.Uint64(head[:]), heads)
}

// A map of Go 1.23 and before (runtime/map.go, types hmap and bmap). The offsets
// are in hmap, and in a bucket of a map[string]string.
const (
	hmapFlags      = 8
	hmapB          = 9
	hmapBuckets    = 16
	hmapOldBuckets = 24
	hmapSize       = 48
	hmapSameSize   = 8 // in the flags: it grows to as many buckets as before

	bucketCells    = 8
	bucketKeys     = 8
	bucketValues   = bucketKeys + bucketCells*stringSize
	bucketOverflow = bucketValues + bucketCells*stringSize
	bucketSize     = bucketOverflow + 8
	minTopHash     = 5 // a cell whose mark is less is empty or was moved
)

func (l *labels) mapStrings(ptr uint64) ([]byte, error) {
	var b [8]byte
	if err := l.mem.ReadMem(ptr, b[:]); err != nil {
		return nil, err
	}
	hmap := binary.LittleEndian.Uint64(b[:])
	if hmap == 0 {
		return nil, nil
	}
	var h [hmapSize]byte
	if err := l.mem.ReadMem(hmap, h[:]); err != nil {
		return nil, err
	}
	bits := min(h[hmapB], maxLabelBucket)
	heads, err := l.buckets(binary.LittleEndian.Uint64(h[hmapBuckets:]), 1<<bits, nil)
	if err != nil {
		return nil, err
	}
	old := binary.LittleEndian.Uint64(h[hmapOldBuckets:])
	if old == 0 {
		return heads, nil
	}
	if h[hmapFlags]&hmapSameSize == 0 && bits > 0 {
		bits--
	}
	return l.buckets(old, 1<<bits, heads)
}

// buckets appends the headers of the strings in n buckets and those that overflow
// from them.
func (l *labels) buckets(addr uint64, n int, heads []byte) ([]byte, error) {
	if addr == 0 {
		return heads, nil
	}
	var b [bucketSize]byte
	for i := range uint64(n) {
		at := addr + i*bucketSize
		for range maxLabelChain {
			if err := l.mem.ReadMem(at, b[:]); err != nil {
				return nil, err
			}
			for cell := range bucketCells {
				if b[cell] >= minTopHash && len(heads) < maxLabels*2*stringSize {
					heads = append(heads, b[bucketKeys+cell*stringSize:][:stringSize]...)
					heads = append(heads, b[bucketValues+cell*stringSize:][:stringSize]...)
				}
			}
			if at = binary.LittleEndian.Uint64(b[bucketOverflow:]); at == 0 {
				break
			}
		}
	}
	return heads, nil
}

// texts reads the strings whose headers are given.
func (l *labels) texts(heads []byte) ([]dump.Label, error) {
	reads := make([]process.MemRead, len(heads)/stringSize)
	for i := range reads {
		ptr, n := binary.LittleEndian.Uint64(heads[i*stringSize:]), binary.LittleEndian.Uint64(heads[i*stringSize+8:])
		reads[i] = process.MemRead{Addr: ptr, Buf: make([]byte, min(n, maxLabelText))}
	}
	if _, err := l.mem.ReadMany(reads); err != nil {
		return nil, err
	}
	set := make([]dump.Label, len(reads)/2)
	for i := range set {
		set[i] = dump.Label{Key: string(reads[2*i].Buf), Value: string(reads[2*i+1].Buf)}
	}
	return set, nil
}
