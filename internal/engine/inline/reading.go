package inline

import (
	"gopherscope/internal/engine/probes"
	"gopherscope/internal/goruntime"
)

// reading is how the records of a site are read, worked out before the first comes.
type reading struct {
	walk     walk
	kind     probes.Kind // of a change that is no birth
	borrowsM bool
}

// readingsOf is the reading of each site; none has a walk without stacks.
func readingsOf(sites []probes.Site, stacks bool) []reading {
	reads := make([]reading, len(sites))
	for i := range sites {
		s := &sites[i]
		reads[i] = reading{kind: s.KindAt(goruntime.Running, goruntime.Running), borrowsM: s.BorrowsM()}
		if stacks {
			reads[i].walk = walkOf(s)
		}
	}
	return reads
}

// singles are the sites with whose records no others come, unless they are of a dead g.
func singles(reads []reading) (single [256]bool) {
	for i, read := range reads {
		single[i] = read.walk == walkNone || read.walk == walkParent
	}
	return single
}

// follow says how many records belong to one, after it: see ORIGIN, WALK and PUBLISH in
// asm/probe_amd64.S.
func follow(sites []probes.Site, reads []reading) func(*raw) int {
	return func(w *raw) int {
		index, from, to := w.what()
		if int(index) >= len(sites) {
			return 0
		}
		walked := reads[index].walk
		switch walked {
		case walkNone, walkParent:
		default:
			return recordsOf(depthOf(w.other()))
		}
		if goruntime.Status(from) != goruntime.Dead {
			return 0
		}
		switch sites[index].KindAt(goruntime.Status(from), goruntime.Status(to)) {
		case probes.Birth, probes.BirthParked:
		default:
			return 0
		}
		if walked == walkNone {
			return 1
		}
		_, depth := unpackParent(w.other())
		return 1 + recordsOf(depthOf(depth))
	}
}

// record passes one record on. What it says is the target's word: a site that there is
// not, or a change that cannot be, is dropped and counted.
func (e *Engine) record(r *record) error {
	index, from, to := r.raw.what()
	goid := r.raw.goid()
	if int(index) >= len(e.reads) || goid == 0 {
		e.rings.invalid++
		return nil
	}
	read := &e.reads[index]
	if read.borrowsM {
		r.ring.extra = true
	}
	rec := &e.rec
	rec.Kind = read.kind
	if goruntime.Status(from) == goruntime.Dead {
		rec.Kind = e.sites[index].KindAt(goruntime.Status(from), goruntime.Status(to))
	}
	rec.Site, rec.Reason, rec.From, rec.To = index, r.raw.reason(), goruntime.Status(from), goruntime.Status(to)
	rec.TID, rec.PID, rec.M, rec.P = e.names.of(r.raw.tid(), r.ring.m), e.names.pid, r.ring.m, r.raw.p()
	rec.Time, rec.GoID, rec.Other = e.clock.Mono(r.tsc), goid, r.raw.other()
	rec.GoPC, rec.StartPC, rec.Stack = 0, 0, 0
	if !r.raw.plain(&e.rings.single) {
		e.belongings(r, rec)
	}
	if ev := e.seq.Event(&e.rec); ev != nil {
		return e.emit(ev)
	}
	return nil
}

// belongings fills in what follows a record: where a newborn comes from, and a stack.
func (e *Engine) belongings(r *record, rec *probes.Record) {
	pcs, walked := r.rest, e.reads[rec.Site].walk
	depth := rec.Other
	if rec.Kind == probes.Birth || rec.Kind == probes.BirthParked {
		if len(pcs) == 0 {
			return
		}
		rec.GoPC, rec.StartPC = linked(pcs[0][0], e.in.tgt.Bias), linked(pcs[0][1], e.in.tgt.Bias)
		if walked != walkParent {
			return
		}
		rec.Other, depth = unpackParent(depth)
		if pcs = pcs[1:]; rec.Other == 0 {
			return // the runtime's own doing
		}
	} else {
		if walked == walkNone || walked == walkParent || walked == walkPark && rec.From != goruntime.Running {
			return
		}
		rec.Other = 0
	}
	rec.Stack = e.stacks.id(pcs, depth, walked)
}

// linked is an address of the process as the binary has it; 0 if it is unknown.
func linked(addr, bias uint64) uint64 {
	if addr == 0 {
		return 0
	}
	return addr - bias
}
