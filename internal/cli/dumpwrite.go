package cli

import (
	"io"
	"iter"

	"gopherscope/internal/dump"
	"gopherscope/internal/pprof"
	"gopherscope/internal/report"
	"gopherscope/internal/target"
)

// dumpWriter writes a Dump in the form that was asked for, and counts in sum what
// it wrote.
type dumpWriter struct {
	d    *dump.Dump
	opts *dumpOptions
	sum  *report.DumpSummary
	src  *dumpSource
}

func (w *dumpWriter) write(out io.Writer) error {
	if w.opts.pprof {
		return pprof.Write(out, w.d, w.counted(), mapping(w.src))
	}
	o := report.DumpOptions{All: w.opts.filter.All, Labels: w.opts.labels}
	to := report.NewDumpText(out, w.d, o)
	if w.opts.json {
		to = report.NewDumpJSON(out, w.d, o)
	}
	if err := w.goroutines(to); err != nil {
		return err
	}
	if err := to.Summary(w.sum); err != nil {
		return err
	}
	return to.Flush()
}

func (w *dumpWriter) goroutines(to report.Goroutines) error {
	if !w.opts.group {
		for g := range w.counted() {
			if err := to.Goroutine(g); err != nil {
				return err
			}
		}
		return nil
	}
	groups := w.d.Groups(w.counted(), w.opts.filter.All)
	w.sum.Groups = len(groups)
	for i := range groups {
		if err := to.Group(&groups[i]); err != nil {
			return err
		}
	}
	return nil
}

// counted are the goroutines that pass the filter.
func (w *dumpWriter) counted() iter.Seq[*dump.Goroutine] {
	return func(yield func(*dump.Goroutine) bool) {
		for g := range w.opts.filter.Select(w.d) {
			w.sum.Shown++
			if !yield(g) {
				return
			}
		}
	}
}

// mapping is where the program's code is, for a profile.
func mapping(s *dumpSource) pprof.Mapping {
	m := pprof.Mapping{File: s.path}
	lo, hi := s.target.Bin.Text()
	for _, seg := range target.Segments(s.target.Bin) {
		if lo >= seg.Vaddr && hi-seg.Vaddr <= seg.Memsz {
			m.Start, m.Limit, m.Offset = seg.Vaddr, seg.Vaddr+seg.Memsz, seg.Off
		}
	}
	return m
}
