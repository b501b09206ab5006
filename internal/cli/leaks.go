package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"gopherscope/internal/dump"
	"gopherscope/internal/leaks"
	"gopherscope/internal/report"
	"gopherscope/internal/snapshot"
	"gopherscope/internal/waiton"
)

// leaksOptions are the choices of gopherscope leaks.
type leaksOptions struct {
	operand  string
	duration time.Duration
	json     bool
	output   string
	min      int
	all      bool
}

func newLeaks(t *terminal) *cobra.Command {
	var o leaksOptions
	cmd := &cobra.Command{
		Use:   "leaks [flags] PID",
		Short: "Name the go statements whose goroutines seem to leak",
		Long: `Name the go statements whose goroutines seem to leak, with the evidence.

All goroutines are looked at several times over the duration; the process is not
stopped. The grades, the most certain first:

  leaked            the runtime's own leak profile found them (Go 1.26 and later)
  blocked for ever  on a nil channel or in a select without cases
  growing           ever more of them, which do not go away, whatever they do
  stuck             100 or more with the same stack, and not one of them moves

This is evidence, not proof. A longer duration makes it better: it tells what
takes its time from what never ends. Ctrl-C ends early, with what is known by
then. The exit code is 0 with and without suspects.`,
		Example: `  gopherscope leaks 1234
  gopherscope leaks -d 10m 1234
  gopherscope leaks --json 1234 | jq 'select(.type == "leak_suspect")'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("leaks takes one PID, got %d operands", len(args))
			}
			o.operand = args[0]
			if err := checkDuration(o.duration, false); err != nil { // 0 is to look once
				return err
			}
			if o.min < 1 {
				return usagef("--min %d is less than 1", o.min)
			}
			return runLeaks(cmd.Context(), t, &o)
		},
	}
	fl := cmd.Flags()
	fl.DurationVarP(&o.duration, "duration", "d", 30*time.Second, "watch for this time; 0 looks once, which cannot tell what grows")
	fl.BoolVar(&o.json, "json", false, "one JSON object a line")
	fl.StringVarP(&o.output, "output", "o", "", "write to this file instead of standard output")
	fl.IntVar(&o.min, "min", 1, "only sites with at least this many goroutines")
	fl.BoolVar(&o.all, "all", false, "sites that are not suspect, too")
	fl.SortFlags = false
	return cmd
}

// runLeaks watches before it creates the output, so that an error leaves no empty
// file. Without a snapshot there is a summary in JSON only.
func runLeaks(ctx context.Context, t *terminal, o *leaksOptions) error {
	src, err := openDumpTarget(o.operand)
	if err != nil {
		return err
	}
	defer src.Close()
	for _, note := range src.target.Notes {
		t.notef("note: %s", note)
	}
	w := &leakWatcher{term: t, src: src, duration: o.duration}
	watchErr := src.explain(w.run(ctx))
	r := w.watch.Report()
	if r.Snapshots == 0 {
		if !o.json {
			return watchErr
		}
		r = &leaks.Report{PID: src.proc.PID(), Version: src.target.Bin.Version()}
	}
	out, err := openOutput(o.output, t.Out)
	if err != nil {
		return errors.Join(watchErr, err)
	}
	to := report.NewLeaksText(out, r)
	if o.json {
		to = report.NewLeaksJSON(out, r)
	}
	sum := &report.LeaksSummary{Report: r, Err: watchErr}
	err = errors.Join(writeLeaks(to, o, sum), out.Close())
	return errors.Join(watchErr, outputError(err, o.output))
}

func writeLeaks(to report.Leaks, o *leaksOptions, sum *report.LeaksSummary) error {
	for i := range sum.Report.Sites {
		s := &sum.Report.Sites[i]
		suspect := s.Grade != leaks.None
		if s.Count < o.min || !suspect && !o.all {
			if suspect {
				sum.Hidden++
			}
			continue
		}
		sum.Shown++
		if err := to.Site(s); err != nil {
			return err
		}
	}
	if err := to.Summary(sum); err != nil {
		return err
	}
	return to.Flush()
}

// leakSnapshots is how many snapshots a watch takes: the more, the finer it tells
// whether a number keeps rising, but what lives for as long as the time between
// two of them counts as lasting. It must be more than what a leaks.Report needs to
// judge growth.
const leakSnapshots = 7

// leakWatcher takes the snapshots of a watch.
type leakWatcher struct {
	term     *terminal
	src      *dumpSource
	duration time.Duration
	watch    leaks.Watch
	taken    int
}

// run takes the snapshots at equal distances, and returns the error that ended it
// early: that of ctx only if there is no snapshot yet. One that takes longer than
// the distance delays the next. A snapshot that is not complete does not count:
// what is missing is not gone, and what a part shows is not what there is.
func (w *leakWatcher) run(ctx context.Context) error {
	defer w.term.clearProgress()
	began := time.Now()
	planned := leakSnapshots
	if w.duration == 0 {
		planned = 1
	}
	for i := range planned {
		due := began.Add(w.duration * time.Duration(i) / (leakSnapshots - 1))
		if !w.sleep(ctx, time.Until(due)) {
			return w.ended(ctx.Err(), planned)
		}
		w.term.progress("snapshot %d of %d", i+1, planned)
		d, err := snapshot.Take(ctx, w.src.target, &w.src.options)
		if err != nil {
			return w.ended(err, planned)
		}
		w.watch.Add(d)
		w.taken++
		if i == planned-1 {
			return w.references(ctx, d)
		}
	}
	return nil
}

// ended is what run returns for the error that ended it early.
func (w *leakWatcher) ended(err error, planned int) error {
	switch {
	case w.taken == 0:
		return fmt.Errorf("no snapshot is complete: %w", err)
	case errors.Is(err, context.Canceled):
		w.term.notef("ended early, after %d of %d snapshots", w.taken, planned)
		return nil
	}
	return err
}

// references adds who refers to what the goroutines of the last snapshot wait on.
func (w *leakWatcher) references(ctx context.Context, d *dump.Dump) error {
	w.term.progress("references")
	waiting, err := waiton.Find(ctx, w.src.target, d)
	switch {
	case ctx.Err() != nil:
		w.term.notef("ended early: who refers to what the goroutines wait on is not known")
		return nil
	case err != nil:
		return err
	}
	w.watch.AddWaiting(d, waiting)
	return nil
}

// sleep waits for a time, or for the end of the process, which the next snapshot
// then finds out. It returns false when ctx ends.
func (w *leakWatcher) sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-w.src.proc.Done():
	case <-timer.C:
	}
	return ctx.Err() == nil
}
