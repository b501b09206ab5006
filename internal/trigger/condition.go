package trigger

import (
	"strconv"
	"strings"
	"time"
)

// Condition is what has to come true.
type Condition struct {
	Text  string // as it was written
	Terms []Term // all of them must hold
	For   time.Duration
}

// Term compares a figure with a bound.
type Term struct {
	Figure Figure
	Op     Op
	// Bound is a number, of a duration in ns; or with Factor, how many times the
	// figure's own median.
	Bound  float64
	Factor bool
}

// Op is how a term compares.
type Op string

// The operators.
const (
	Greater Op = ">"
	AtLeast Op = ">="
	Less    Op = "<"
	AtMost  Op = "<="
)

// upward says whether larger values fulfil the term.
func (o Op) upward() bool { return o == Greater || o == AtLeast }

// holds says whether v is beyond the bound.
func (o Op) holds(v, bound float64) bool {
	switch o {
	case Greater:
		return v > bound
	case AtLeast:
		return v >= bound
	case Less:
		return v < bound
	}
	return v <= bound
}

// slack is by which part of its bound a term must be false before its condition can fire
// again.
const slack = 0.1

// clear says whether v is so far from fulfilling the term that it counts as over.
func (o Op) clear(v, bound float64) bool {
	if o.holds(v, bound) {
		return false
	}
	if o.upward() {
		return v <= bound*(1-slack)
	}
	return v >= bound*(1+slack)
}

// Figure is what is measured.
type Figure struct {
	Name   string // goroutines, running, runnable, waiting, syscall, created, lost, sched or block
	Reason string // of waiting and block: the wait reason in the runtime's words; "" is all
	Part   string // of sched and block: p50, p90, p99, p999, max or total
}

// The names of figures.
const (
	goroutines = "goroutines"
	running    = "running"
	runnable   = "runnable"
	waiting    = "waiting"
	syscall    = "syscall"
	created    = "created"
	lost       = "lost"
	sched      = "sched"
	block      = "block"
)

// names are all of them, in the order in which they are explained.
var names = []string{goroutines, running, runnable, waiting, syscall, created, lost, sched, block}

// parts are those of a distribution.
var parts = []string{"p50", "p90", "p99", "p999", "max", "total"}

// takesReason says whether the figure can be of one wait reason.
func (f Figure) takesReason() bool { return f.Name == waiting || f.Name == block }

// duration says whether the figure is one, and not a number.
func (f Figure) duration() bool { return f.Name == sched || f.Name == block }

// counts says whether the figure counts goroutines at a moment.
func (f Figure) counts() bool { return !f.duration() && f.Name != created && f.Name != lost }

// String is the figure as it is written in a condition.
func (f Figure) String() string {
	s := f.Name
	if f.Reason != "" {
		quote := "'"
		if strings.Contains(f.Reason, quote) {
			quote = `"`
		}
		s += "[" + quote + f.Reason + quote + "]"
	}
	if f.Part != "" {
		s += "." + f.Part
	}
	return s
}

// format is a value of the figure for people: three or four digits.
func (f Figure) format(v float64) string {
	if !f.duration() {
		return number(v)
	}
	d := time.Duration(v)
	for _, unit := range []time.Duration{time.Second, time.Millisecond, time.Microsecond} {
		if d >= unit {
			return d.Round(unit / 100).String()
		}
	}
	return d.String()
}

func number(v float64) string {
	if v == float64(int64(v)) {
		return strconv.FormatInt(int64(v), 10)
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}
