package perfetto

import (
	"path"
	"strconv"
	"strings"

	"gopherscope/internal/event"
	"gopherscope/internal/goid"
)

// The order of the tracks of a process.
const (
	rankCounters = iota
	rankProcessors
	rankGoroutines
)

// maxSites is how many creation sites are remembered in a process. A program has far
// fewer; a damaged recording could have any number, and then gets a track more than once.
const maxSites = 1 << 16

// maxProcessors is how many Ps get a track. No machine has as many.
const maxProcessors = 1 << 14

// track is a track that has slices: its times never go back.
type track struct {
	uuid uint64
	last int64
}

// at is the time for the next event of the track. Streams are in order for each goroutine
// only, and a track of a P has events of many: some are some ns out of order.
func (t *track) at(time int64) int64 {
	t.last = max(t.last, time)
	return t.last
}

// process has the tracks of one process.
type process struct {
	pid        uint32
	uuid       uint64
	processors uint64 // the group of the Ps; 0 until there is one
	goroutines uint64 // the group of the creation sites
	live       goid.Map[goroutine]
	ps         map[int32]*processor
	sites      map[event.Location]uint64
	counters   counters
}

// goroutine is a live goroutine, or a dead one of an extra M.
type goroutine struct {
	track
	open   bool       // there is an open slice
	gaps   uint8      // since its last event
	count  int8       // the state in which it is counted; none if below 0
	p      *processor // on which it has an open slice
	flow   uint64     // from who made it runnable
	flowed int64      // when
	start  string     // the function that its go statement names
}

// processor is a P.
type processor struct {
	track
	owner *goroutine // of the open slice; nil if there is none
}

// descriptor is a new track.
type descriptor struct {
	parent      uint64
	name        string
	description string
	rank        int
	ranked      bool // its children have ranks
	counter     bool
	cmdline     []string // of a process
	pid         uint32   // not 0 for a process
}

// describe writes a new track and returns its uuid.
func (w *Writer) describe(d descriptor) uint64 {
	w.uuid++
	m := &w.body
	m.reset()
	m.uint(trackUUID, w.uuid)
	if d.parent != 0 {
		m.uint(trackParent, d.parent)
	}
	m.text(trackName, d.name)
	if d.description != "" {
		m.text(trackDescription, d.description)
	}
	if d.ranked {
		m.uint(trackChildOrdering, orderExplicit)
	}
	m.int(trackOrderRank, int64(d.rank))
	m.uint(trackMerge, mergeNone)
	switch {
	case d.pid != 0:
		w.note.reset()
		w.note.int(processPID, int64(int32(d.pid)))
		for _, arg := range d.cmdline {
			w.note.text(processCmdline, arg)
		}
		w.note.text(processName, d.name)
		m.sub(trackProcess, w.note)
	case d.counter:
		w.note.reset()
		w.note.uint(counterUnit, unitCount)
		m.sub(trackCounter, w.note)
	}
	w.seq.emit(-1, packetTrackDescriptor, *m)
	return w.uuid
}

// process is the process with that PID.
func (w *Writer) process(pid uint32) *process {
	if w.current != nil && w.current.pid == pid {
		return w.current
	}
	p := w.processes[pid]
	if p == nil {
		p = w.newProcess(pid)
		w.processes[pid] = p
	}
	w.current = p
	return p
}

func (w *Writer) newProcess(pid uint32) *process {
	d := descriptor{name: path.Base(w.info.Exe), pid: pid, ranked: true}
	if w.info.Exe == "" {
		d.name = "process " + strconv.FormatUint(uint64(pid), 10)
	}
	if w.info.PID == int(pid) {
		d.cmdline = w.info.Command
	}
	return &process{pid: pid, uuid: w.describe(d), ps: map[int32]*processor{}, sites: map[event.Location]uint64{}}
}

// goroutine makes the track of a goroutine that is new to the stream.
func (w *Writer) goroutine(p *process, id uint64, birth *event.Birth) *goroutine {
	var b event.Birth
	if birth != nil {
		b = *birth
	}
	parent := w.site(p, b.CreatedBy)
	d := descriptor{parent: parent, name: goroutineName(id, b.Start.Func)}
	if birth != nil && b.Parent != 0 {
		d.description = "created by goroutine " + strconv.FormatUint(b.Parent, 10)
	}
	g := p.live.Put(id)
	*g = goroutine{count: notCounted, start: b.Start.Func, track: track{uuid: w.describe(d)}}
	return g
}

// goroutineName is how a goroutine is called: "G17 main.worker".
func goroutineName(id uint64, start string) string {
	name := "G" + strconv.FormatUint(id, 10)
	if start != "" {
		name += " " + start
	}
	return name
}

// site is the track of a creation site, the parent of the goroutines that come from it.
func (w *Writer) site(p *process, l event.Location) uint64 {
	if uuid, ok := p.sites[l]; ok {
		return uuid
	}
	if p.goroutines == 0 {
		p.goroutines = w.describe(descriptor{parent: p.uuid, name: "Goroutines", rank: rankGoroutines})
	}
	d := descriptor{parent: p.goroutines, name: "created by: unknown"}
	if l != (event.Location{}) {
		d.name = "created by " + l.Func
		if l.File != "" {
			d.name += " " + l.File[strings.LastIndexByte(l.File, '/')+1:] + ":" + strconv.Itoa(l.Line)
		}
		d.description = place(l)
	}
	if len(p.sites) >= maxSites {
		clear(p.sites)
	}
	uuid := w.describe(d)
	p.sites[l] = uuid
	return uuid
}

// processor is the P with that number; nil when there are too many.
func (w *Writer) processor(p *process, id int32) *processor {
	if pr := p.ps[id]; pr != nil || len(p.ps) >= maxProcessors {
		return pr
	}
	if p.processors == 0 {
		p.processors = w.describe(descriptor{parent: p.uuid, name: "Processors", rank: rankProcessors, ranked: true})
	}
	d := descriptor{parent: p.processors, name: "P" + strconv.Itoa(int(id)), rank: int(id)}
	pr := &processor{track: track{uuid: w.describe(d)}}
	p.ps[id] = pr
	return pr
}
