package inline

import (
	"encoding/binary"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pass runs the code at entry n times as a call site does, with g in R14.
//
//go:noescape
func pass(entry, self uintptr, n int)

// park runs the code at entry n times as the call of casgstatus in park_m does, with self in
// R14, for gp, which goes from running to waiting.
//
//go:noescape
func park(entry, self, gp uintptr, n int)

// Where the made-up structs for calibrate lie in its pages.
const (
	calCode    = 0
	calControl = pageSize // and spareOffset behind it
	calG       = pageSize + 256
	calM       = pageSize + 512
	calP       = pageSize + 768
	calStack   = pageSize + 1024
	calHeaders = 2 * pageSize // no more than one of the rings is used
	calRing    = calHeaders + minRings*headerBytes
	calBytes   = calRing + calPasses*recordBytes

	calPasses = 1024 // fill the ring once
	calParks  = calPasses / (1 + maxDepth/pcsInRecord)
	calRounds = 20
	calFrame  = 80 // bytes of a frame; 32 fit behind calStack
)

// The offsets in the made-up structs; those that are not named are 0.
const (
	calGGoID, calGReason              = 8, 16
	calGPC, calGBP, calGLow, calGHigh = 24, 32, 40, 48
	calMProcID, calMCurG, calMP       = 8, 16, 24
)

// prices are what code of ours costs on this machine, in ns.
type prices struct {
	hit          float64 // one pass, without a stack
	stack, frame float64 // what a stack adds, and each of its frames
}

// calibrator is this process's own memory, in which the code is measured.
type calibrator struct {
	mem []byte
	at  uint64
}

// calibrate measures what passes cost: on this process, on g, m and p that are made up, with
// all of it in the cache. It takes a millisecond or two.
func calibrate() (p prices, err error) {
	mem, err := unix.Mmap(-1, 0, calBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return p, fmt.Errorf("measure the cost of a probe: %w", err)
	}
	defer func() { _ = unix.Munmap(mem) }() // our own, whole: it cannot fail
	c := &calibrator{mem, uint64(uintptr(unsafe.Pointer(&mem[0])))}
	ret, parks, err := c.prepare()
	if err != nil {
		return p, err
	}
	self := uintptr(c.at + calG)
	run := func(entry uint64) func() { return func() { pass(uintptr(entry), self, calPasses) } }
	stand := func(entry uint64) func() { return func() { park(uintptr(entry), self, self, calParks) } }
	p.hit = max(0, c.best(run(c.at))-c.best(run(ret))) / calPasses
	empty := c.best(stand(ret))
	c.deep(1)
	one := max(0, c.best(stand(parks))-empty) / calParks
	c.deep(maxDepth)
	all := max(0, c.best(stand(parks))-empty) / calParks
	p.frame = max(0, all-one) / (maxDepth - 1)
	p.stack = max(0, one-p.frame-p.hit)
	return p, nil
}

// prepare writes the code: that of a system call's site at the beginning, that of park_m at
// parks, and at ret an instruction that returns at once.
func (c *calibrator) prepare() (ret, parks uint64, err error) {
	ret = c.at + calControl - 1
	c.mem[calControl-1] = 0xc3
	parks = c.at + calControl/2
	for name, at := range map[string]uint64{"selfg": c.at + calCode, "park": parks} {
		code, err := c.code(name, at, ret)
		if err != nil {
			return 0, 0, err
		}
		if len(code) >= calControl/2 {
			return 0, 0, fmt.Errorf("internal error: %d bytes of code for %s", len(code), name)
		}
		copy(c.mem[at-c.at:], code)
	}
	c.put(calControl, c.at+calHeaders)
	c.put(calG, c.at+calM)
	c.put(calM+calMP, c.at+calP)
	c.put(calHeaders+dataOffset, c.at+calRing)
	c.put(calG+calGPC, 1)
	c.put(calG+calGLow, c.at+calStack)
	c.put(calG+calGHigh, c.at+calHeaders)
	if err := unix.Mprotect(c.mem[:pageSize], unix.PROT_READ|unix.PROT_EXEC); err != nil {
		return 0, 0, fmt.Errorf("measure the cost of a probe: %w", err)
	}
	return ret, parks, nil
}

func (c *calibrator) put(off int, v uint64) { binary.LittleEndian.PutUint64(c.mem[off:], v) }

// deep makes a stack of so many program counters, the first of which is no frame's.
func (c *calibrator) deep(depth int) {
	c.put(calG+calGBP, 0)
	for i := depth - 2; i >= 0; i-- {
		at := calStack + i*calFrame
		c.put(at, binary.LittleEndian.Uint64(c.mem[calG+calGBP:]))
		c.put(at+8, 1)
		c.put(calG+calGBP, c.at+uint64(at))
	}
}

// best is the shortest time of f in some rounds, in ns, each with an empty ring.
func (c *calibrator) best(f func()) float64 {
	best := time.Duration(1 << 62)
	for range calRounds {
		c.put(calHeaders+tailOffset, binary.LittleEndian.Uint64(c.mem[calHeaders+headOffset:]))
		best = min(best, timed(f))
	}
	return float64(best)
}

func timed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

// code is a template for the made-up structs, to be put there.
func (c *calibrator) code(name string, there, exit uint64) ([]byte, error) {
	ts, err := loadTemplates()
	if err != nil {
		return nil, err
	}
	t := ts[name]
	return t.link(there, symbols{
		"CONTROL": int64(c.at + calControl), "SPARE": int64(c.at + calControl + spareOffset), "EXIT": int64(exit),
		"RING_MASK": minRings - 1, "HEADERS_SIZE": minRings * headerBytes,
		"CAPACITY": calPasses, "SLOT_MASK": calPasses - 1, "RING_BYTES_MASK": calPasses*recordBytes - 1,
		"G_M": 0, "G_GOID": calGGoID, "G_WAITREASON": calGReason,
		"G_SCHEDPC": calGPC, "G_SCHEDBP": calGBP, "G_STACKLO": calGLow, "G_STACKHI": calGHigh,
		"M_ID": 0, "M_PROCID": calMProcID, "M_CURG": calMCurG, "M_P": calMP, "P_ID": 0,
	})
}
