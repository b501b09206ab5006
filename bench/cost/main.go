// Command cost holds what gopherscope says that a trace costs to what it costs.
//
// A program that does some work and hands a token on, over and over, runs with and without a
// trace by turns. What each round trip took of its own CPU time then, more than without, is
// what the trace cost it: measured in CPU time, so that other work on the machine counts
// as little as can be. The summary of the trace says what it cost by hits and calibration. The table
// has both as a share of the program's CPU time, the medians of the rounds and their spread.
//
// It must be run as root, in the module's directory: go run ./bench/cost.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// targetCommand makes this program be the one that is traced.
const targetCommand = "be-the-target"

// config is what the program does: one row of the table.
type config struct {
	engine string
	procs  int
	work   int // steps before each hand-over: the more, the fewer changes a second
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == targetCommand {
		exit(serve(os.Stdin, os.Stdout))
	}
	rounds := flag.Int("rounds", 7, "measure each row `N` times with and without a trace")
	each := flag.Duration("duration", 700*time.Millisecond, "time of one measurement")
	only := flag.String("engine", "", "the rows of this `engine` only")
	flag.Parse()
	if flag.NArg() > 0 || *rounds < 1 || *each <= 0 {
		flag.Usage()
		os.Exit(2)
	}
	exit(bench(os.Stdout, *only, *rounds, *each))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "cost:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// configs are all rows. A change under the ebpf engine costs some microseconds, under the
// inline engine some ten nanoseconds: each has work that makes its cost a visible part.
func configs() []config {
	work := map[string][]int{"ebpf": {0, 20_000, 200_000}}
	engines := []string{"ebpf"}
	if runtime.GOARCH == "amd64" {
		work["inline"] = []int{0, 300, 2_000}
		engines = append(engines, "inline")
	}
	var list []config
	for _, engine := range engines {
		for _, procs := range slices.Compact([]int{1, runtime.NumCPU()}) {
			for _, w := range work[engine] {
				list = append(list, config{engine, procs, w})
			}
		}
	}
	return list
}

func bench(w io.Writer, only string, rounds int, each time.Duration) (err error) {
	dir, err := os.MkdirTemp("", "gopherscope-cost")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	tool := filepath.Join(dir, "gopherscope")
	build := exec.Command("go", "build", "-o", tool, "./cmd/gopherscope")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build gopherscope: %w", err)
	}
	fmt.Fprintf(w, "%d CPUs, %s, load average %s. Medians of %d rounds, with minimum and maximum.\n", runtime.NumCPU(), runtime.Version(), loadAverage(), rounds)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(tw, "engine\tGOMAXPROCS\tchanges a CPU second\tpredicted %\tmeasured %\tpredicted/measured\tlost %\n")
	for _, c := range configs() {
		if only != "" && only != c.engine {
			continue
		}
		r, err := run(tool, c, rounds, each)
		if err != nil {
			return fmt.Errorf("%+v: %w", c, err)
		}
		fmt.Fprintf(tw, "%s\t%d\t%.0f\t%s\t%s\t%s\t%.1f\n", c.engine, c.procs, median(r.rate), spread(r.predicted, 100), spread(r.measured, 100), spread(r.ratio, 1), 100*median(r.lost))
	}
	return tw.Flush()
}

// loadAverage is how much else there was to do on the machine, in the last minute.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	load, _, _ := strings.Cut(string(text), " ")
	return load
}

// result has a number for each round.
type result struct{ rate, predicted, measured, ratio, lost []float64 }

// run lets a target run with and without a trace, by turns.
func run(tool string, c config, rounds int, each time.Duration) (r result, err error) {
	t, err := startTarget()
	if err != nil {
		return r, err
	}
	defer t.stop()
	if _, err := t.work(c, each/2); err != nil { // warm up
		return r, err
	}
	before, err := t.work(c, each)
	if err != nil {
		return r, err
	}
	for range rounds {
		traced, said, err := t.traced(tool, c, each)
		if err != nil {
			return r, err
		}
		after, err := t.work(c, each)
		if err != nil {
			return r, err
		}
		// What the machine did in between is between what it did before and after.
		alone := (before.perTrip() + after.perTrip()) / 2
		before = after
		measured := (traced.perTrip() - alone) / traced.perTrip()
		predicted := said.perTrip / traced.perTrip()
		r.rate = append(r.rate, said.changes/traced.perTrip()*1e9)
		r.measured, r.predicted = append(r.measured, measured), append(r.predicted, predicted)
		r.ratio, r.lost = append(r.ratio, predicted/measured), append(r.lost, said.lost)
	}
	return r, nil
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

func spread(v []float64, times float64) string {
	return fmt.Sprintf("%.2f (%.2f-%.2f)", times*median(v), times*slices.Min(v), times*slices.Max(v))
}

// target is the measured process.
type target struct {
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Reader
}

func startTarget() (*target, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	t := &target{cmd: exec.Command(self, targetCommand)}
	t.cmd.Stderr = os.Stderr
	if t.in, err = t.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := t.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	t.out = bufio.NewReader(out)
	return t, t.cmd.Start()
}

func (t *target) stop() {
	t.cmd.Process.Kill()
	_ = t.cmd.Wait() // it was killed
}

// done is what the target did of its work.
type done struct {
	trips float64
	cpu   time.Duration // of its own, for that
}

func (d done) perTrip() float64 { return float64(d.cpu) / d.trips }

func (t *target) work(c config, d time.Duration) (done, error) {
	var r done
	if _, err := fmt.Fprintln(t.in, c.procs, c.work, int64(d)); err != nil {
		return r, err
	}
	line, err := t.out.ReadString('\n')
	if err != nil {
		return r, fmt.Errorf("target ended: %w", err)
	}
	_, err = fmt.Sscan(line, &r.trips, (*int64)(&r.cpu))
	return r, err
}
