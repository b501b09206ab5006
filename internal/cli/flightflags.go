package cli

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/pflag"

	"gopherscope/internal/process"
	"gopherscope/internal/trigger"
)

// flightOptions are the choices of a recorder that waits for something to happen.
type flightOptions struct {
	on       bool
	when     []*trigger.Condition
	last     time.Duration // before it happens
	after    time.Duration // it has happened
	coolDown time.Duration // until a condition counts again
	memory   int64         // for what is kept, bytes
	room     string        // the same as it was given
}

// The defaults.
const (
	defaultLast      = 30 * time.Second
	defaultIncidents = 10
	defaultRotated   = 2
)

// minMemory is the smallest --memory: some blocks.
const minMemory = 1 << 20

// flightFlags are the flags as they were given.
type flightFlags struct {
	flightOptions
	conditions []string
	memorySize string
}

func (f *flightFlags) flags(fl *pflag.FlagSet) {
	fl.StringArrayVar(&f.conditions, "when", nil, "record only when this comes to hold, such as 'runnable > 200 for 3s'; may be given more than once")
	fl.DurationVar(&f.last, "last", 0, "keep this much in memory until then (default 30s with --when)")
	fl.DurationVar(&f.after, "after", 5*time.Second, "go on for this time once it happened")
	fl.DurationVar(&f.coolDown, "cool-down", time.Minute, "after that, take no condition for this time")
	fl.StringVar(&f.memorySize, "memory", "64M", "keep no more than this, whatever --last says")
}

// parse reads the flags.
func (f *flightFlags) parse(t *terminal, given func(flag string) bool) (flightOptions, error) {
	o := f.flightOptions
	o.on = given("when") || given("last")
	for _, name := range []string{"after", "cool-down", "memory"} {
		if given(name) && !o.on {
			return o, usagef("--%s needs --last or --when", name)
		}
	}
	switch {
	case !o.on:
		return o, nil
	case given("max-size"):
		return o, withHint(usagef("--max-size goes with neither --last nor --when"), "--memory bounds what is kept, --max-files how many files there are")
	case !given("last"):
		o.last = defaultLast
	case o.last <= 0:
		return o, usagef("--last %s is not a time to keep, such as 30s", o.last)
	}
	if o.after < 0 || o.coolDown < 0 {
		return o, usagef("--after and --cool-down cannot be negative")
	}
	var err error
	o.room = f.memorySize
	if o.memory, err = parseFileSize("memory", f.memorySize, minMemory); err != nil {
		return o, err
	}
	for _, text := range f.conditions {
		c, err := trigger.Parse(text)
		if err != nil {
			return o, pointAt(t, err)
		}
		o.when = append(o.when, c)
	}
	return o, nil
}

// pointAt shows where a condition is wrong, and returns what is.
func pointAt(t *terminal, err error) error {
	var e *trigger.SyntaxError
	if !errors.As(err, &e) {
		return err
	}
	const flag = "--when "
	if e.Text != "" {
		column := utf8.RuneCountInString(process.Printable(e.Text[:e.At]))
		fmt.Fprintf(t.Err, "gopherscope: %s%s\ngopherscope: %s^\n", flag, process.Printable(e.Text), strings.Repeat(" ", len(flag)+column))
	}
	return withHint(usagef("--when: %w", e), "%s", e.Hint)
}
