package inline

import (
	"encoding/binary"
	"testing"

	"gopherscope/internal/engine/probes"
	"gopherscope/internal/event"
	"gopherscope/internal/gstate"
	"gopherscope/internal/tsc"
)

// BenchmarkReader is what the reader does with a record, from the ring to the checked
// stream: two busy threads, 16 goroutines.
func BenchmarkReader(b *testing.B) {
	const count, ringBytes = minRings, 1 << 20
	mem := make([]byte, ringsSize(count, ringBytes))
	r, err := newRings(mem, 0, count, ringBytes, func(*raw) int { return 0 })
	if err != nil {
		b.Fatal(err)
	}
	clk, err := tsc.NewClock()
	if err != nil {
		b.Fatal(err)
	}
	sites := make([]probes.Site, 4)
	states := gstate.NewTracker()
	e := &Engine{rings: r, clock: clk, sites: sites, reads: readingsOf(sites, false), seq: probes.NewSequencer(sites, []string{"", "chan receive"}, nil), names: threadNames{same: true, pid: 1}}
	r.single = singles(e.reads)
	e.emit = func(ev *event.Event) error { states.Apply(ev); return nil }
	chain := [...][2]uint64{{2, 4}, {4, 1}, {1, 2}}
	const batch = 4096
	stamp := tsc.Now()
	heads := [2]uint64{}
	step := 0
	for n := 0; n < b.N; n += 2 * batch {
		b.StopTimer()
		for k := range 2 * batch {
			m := (k / 3) % 2
			one := &r.list[m]
			change := chain[step%3]
			rec := one.data[heads[m]%(ringBytes/recordBytes)*recordBytes:]
			binary.LittleEndian.PutUint64(rec, stamp)
			binary.LittleEndian.PutUint64(rec[8:], uint64(100+step/3%16)<<8|1)
			binary.LittleEndian.PutUint64(rec[24:], 77|(1|change[0]<<8|change[1]<<12|3<<16)<<32)
			binary.LittleEndian.PutUint64(one.header[ownerOffset:], uint64(m+1))
			heads[m]++
			stamp += 100
			step++
		}
		for m := range heads {
			binary.LittleEndian.PutUint64(r.list[m].header[headOffset:], heads[m])
		}
		b.StartTimer()
		if err := r.drain(everything, e.record); err != nil {
			b.Fatal(err)
		}
	}
	if v := states.Violations(); v > 0 {
		b.Fatalf("%d violations", v)
	}
}
