package cli

import (
	"context"
	"errors"

	"gopherscope/internal/dump"
	"gopherscope/internal/report"
	"gopherscope/internal/waiton"
)

// runWaitingOn finds what the goroutines of d, which was read from src, wait on,
// writes it, and sums up in a message. It shows the objects that goroutines which
// pass the filter wait on. In a d that takeErr cut short it does not search: what
// is missing may hold the locks and the channels of what is there. An end before
// the end leaves a summary in JSON, and in text no file.
func runWaitingOn(ctx context.Context, t *terminal, src *dumpSource, o *dumpOptions, d *dump.Dump, takeErr error) error {
	r := report.Waiting{Dump: d, Err: takeErr}
	if r.Err == nil {
		var err error
		r.Waiting, err = waiton.Find(ctx, src.target, d)
		r.Err = src.explain(err)
	}
	if r.Err != nil && !o.json {
		t.notef("%s", r.Summary())
		return r.Err
	}
	out, err := openOutput(o.output, t.Out)
	if err != nil {
		return errors.Join(r.Err, err)
	}
	shown := map[uint64]bool{}
	for g := range o.filter.Select(d) {
		shown[g.ID] = true
	}
	r.Shown = func(g *dump.Goroutine) bool { return shown[g.ID] }
	write := r.Text
	if o.json {
		write = r.JSON
	}
	err = errors.Join(write(out), out.Close())
	if err == nil {
		t.notef("%s", r.Summary())
	}
	return errors.Join(r.Err, outputError(err, o.output))
}
