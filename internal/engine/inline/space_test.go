package inline

import (
	"errors"
	"testing"

	"gopherscope/internal/process"
)

// at makes mappings of pairs of begin and end.
func at(bounds ...uint64) []process.Mapping {
	var maps []process.Mapping
	for i := 0; i < len(bounds); i += 2 {
		maps = append(maps, process.Mapping{Start: bounds[i], End: bounds[i+1]})
	}
	return maps
}

const (
	mib, gib = uint64(1) << 20, uint64(1) << 30
	userEnd  = uint64(1) << 47
)

// TestFindSpace: address spaces as they are, and ones at the limits.
func TestFindSpace(t *testing.T) {
	const lo, pie = 0x40_1000, 0x5555_5555_5000
	for name, test := range map[string]struct {
		maps   []process.Mapping
		lo, hi uint64
		want   uint64 // 0: no space
	}{
		"static": {at(lo-0x1000, lo+mib, 0xc0_0000_0000, 0xc0_0400_0000), lo, lo + mib, lo - 0x1000 - clearance - codeBytes},
		"PIE": {at(pie, pie+mib, pie+16*mib, pie+17*mib, userEnd-mib, userEnd-0x1000), pie, pie + mib,
			pie - clearance - codeBytes},
		"PIE, a mapping right below": {at(pie-mib, pie, pie, pie+mib), pie, pie + mib, pie - mib - clearance - codeBytes},
		"PIE, mappings with gaps that are too small": {at(pie-4*mib, pie-2*mib, pie-2*mib+2*clearance+codeBytes-0x1000, pie, pie, pie+mib), pie, pie + mib,
			pie - 4*mib - clearance - codeBytes},
		"PIE, a gap that just fits": {at(pie-4*mib, pie-2*mib, pie-2*mib+2*clearance+codeBytes, pie, pie, pie+mib), pie, pie + mib,
			pie - 2*mib + clearance},
		"low, the heap of brk above": {at(0x1_0000, lo, lo, lo+mib, lo+mib, lo+3*mib, lo+3*mib, lo+40*mib), lo, lo + mib,
			lo + 40*mib + clearance},
		"low, between data and a library": {at(0x1_0000, lo, lo, lo+mib, lo+2*mib, lo+3*mib), lo, lo + mib,
			lo + mib + clearance},
		"low, too little above, then much": {at(0x1_0000, lo, lo, lo+mib, lo+mib+2*clearance, lo+3*mib), lo, lo + mib,
			lo + 3*mib + clearance},
		"low, nothing below":    {at(lo, lo+mib), lo, lo + mib, lo - clearance - codeBytes},
		"just above the lowest": {at(lowest+clearance+codeBytes, 2*mib), lowest + clearance + codeBytes, 2 * mib, lowest},
		"just too low":          {at(lowest+clearance+codeBytes-0x1000, 2*mib), lowest + clearance + codeBytes - 0x1000, 2 * mib, 2*mib + clearance},
		"text at 0x10000":       {at(0x1_0000, mib/2), 0x1_0000, mib / 2, lowest},
		"within reach below": {at(pie-gib+codeBytes+clearance, pie+mib, pie+mib, pie+4*gib), pie, pie + mib,
			pie - gib},
		"out of reach below": {at(pie-gib+codeBytes+clearance-0x1000, pie+mib, pie+mib, pie+4*gib), pie, pie + mib, 0},
		"out of reach above": {at(0, lo, lo, lo+mib, lo+mib, lo+mib+gib-codeBytes-clearance), lo, lo + mib, 0},
		"within reach above": {at(0, lo, lo, lo+mib, lo+mib, lo+mib+gib-codeBytes-clearance-0x1000), lo, lo + mib,
			lo + mib + gib - codeBytes - 0x1000},
		"full":            {at(0, pie+4*gib), pie, pie + mib, 0},
		"a hole in text":  {at(0, pie, pie, pie+mib, pie+2*mib, pie+4*gib), pie, pie + 3*mib, 0},
		"at the very end": {at(0, userEnd-2*mib, userEnd-2*mib, userEnd-mib), userEnd - 2*mib, userEnd - mib, userEnd - mib + clearance},
		"no end left":     {at(0, userEnd-mib, userEnd-mib, userEnd), userEnd - mib, userEnd, 0},
		"vsyscall":        {at(0, pie+4*gib, 0xffff_ffff_ff60_0000, 0xffff_ffff_ff60_1000), pie, pie + mib, 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := findSpace(test.maps, test.lo, test.hi, codeBytes)
			if test.want == 0 {
				if !errors.Is(err, ErrNoSpace) {
					t.Fatalf("%#x, %v", got, err)
				}
				return
			}
			if err != nil || got != test.want {
				t.Fatalf("%#x, %v; want %#x", got, err, test.want)
			}
			fits(t, test.maps, got, test.lo, test.hi)
		})
	}
}

// fits checks a place against what matters: nothing near it, all of the text within reach.
func fits(t *testing.T, maps []process.Mapping, got, lo, hi uint64) {
	t.Helper()
	end := got + codeBytes
	if got%pageSize != 0 || got < lowest || end > userEnd {
		t.Errorf("%#x is no address for it", got)
	}
	for _, m := range maps {
		if got < m.End+clearance && end > m.Start-min(m.Start, clearance) {
			t.Errorf("%#x is too near to %#x-%#x", got, m.Start, m.End)
		}
	}
	if max(end, hi)-min(got, lo) >= 1<<31 {
		t.Errorf("%#x is too far from %#x-%#x", got, lo, hi)
	}
}

// FuzzFindSpace: wherever the mappings are, the place is one that fits or none.
func FuzzFindSpace(f *testing.F) {
	f.Add(uint16(0x400), uint16(200), []byte{1, 2, 3, 4, 90, 200})
	f.Add(uint16(0), uint16(1), []byte{})
	f.Add(uint16(9), uint16(9000), []byte{255, 255, 0, 0, 1, 1})
	f.Fuzz(func(t *testing.T, base, textPages uint16, gaps []byte) {
		lo := uint64(base)*16*pageSize + 0x1_0000 + uint64(len(gaps))*17%pageSize // text need not begin a page
		hi := lo + uint64(textPages)*pageSize + 1
		text := process.Mapping{Start: lo &^ (pageSize - 1), End: (hi + pageSize - 1) &^ (pageSize - 1)}
		var maps []process.Mapping
		var end uint64
		add := func(m process.Mapping) {
			maps = append(maps, m)
			end = m.End
		}
		placed := false
		for i := 0; i+1 < len(gaps); i += 2 {
			m := process.Mapping{Start: end + uint64(gaps[i])*4*pageSize}
			m.End = m.Start + (1+uint64(gaps[i+1]))*32*pageSize
			if !placed && m.End > text.Start {
				placed = true
				add(text)
				continue
			}
			add(m)
		}
		if !placed {
			add(text)
		}
		if got, err := findSpace(maps, lo, hi, codeBytes); err == nil {
			fits(t, maps, got, lo, hi)
		} else if !errors.Is(err, ErrNoSpace) {
			t.Error(err)
		}
	})
}
