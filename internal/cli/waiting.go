package cli

import (
	"context"
	"io"

	"gopherscope/internal/dump"
	"gopherscope/internal/report"
	"gopherscope/internal/target"
	"gopherscope/internal/waiton"
)

// runWaitingOn finds what the goroutines of d, which was read from tgt, wait on,
// writes it to out, and sums up in a message. It shows the objects that goroutines
// which pass the filter wait on.
func runWaitingOn(ctx context.Context, t *terminal, tgt *target.Target, d *dump.Dump, filter *dump.Filter, json bool, out io.Writer) error {
	w, err := waiton.Find(ctx, tgt, d)
	if err != nil {
		return err
	}
	shown := map[uint64]bool{}
	for g := range filter.Select(d) {
		shown[g.ID] = true
	}
	r := report.Waiting{Dump: d, Waiting: w, Shown: func(g *dump.Goroutine) bool { return shown[g.ID] }}
	write := r.Text
	if json {
		write = r.JSON
	}
	if err := write(out); err != nil {
		return err
	}
	t.notef("%s", r.Summary())
	return nil
}
