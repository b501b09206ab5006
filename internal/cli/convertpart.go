package cli

import (
	"math"
	"regexp"
	"strings"
	"time"

	"gopherscope/internal/cut"
	"gopherscope/internal/stream"
)

// partFlags are the flags that choose a part of a trace.
type partFlags struct {
	from, to  string
	goids     []uint
	createdBy string
}

// partOptions are the choices of a part. Moments are resolved when the trace is open.
type partOptions struct {
	from, to moment
	part     cut.Part
}

// moment is a time in a trace; the zero moment is none.
type moment struct {
	text  string
	since time.Duration // after the trace began, or
	clock bool          // the time of day, since midnight
}

func (f *partFlags) parse() (o partOptions, err error) {
	if o.from, err = parseMoment("--from", f.from); err != nil {
		return o, err
	}
	if o.to, err = parseMoment("--to-time", f.to); err != nil {
		return o, err
	}
	for _, id := range f.goids {
		o.part.GoIDs = append(o.part.GoIDs, uint64(id))
	}
	if f.createdBy != "" {
		re, err := regexp.Compile(f.createdBy)
		if err != nil {
			return o, usagef("--created-by: %w", err)
		}
		o.part.CreatedBy = re.MatchString
	}
	if !o.from.clock && !o.to.clock && o.to.text != "" && o.to.since <= o.from.since {
		return o, usagef("--to-time %s is not after --from %s", f.to, o.from.since)
	}
	return o, nil
}

func parseMoment(flag, text string) (moment, error) {
	if text == "" {
		return moment{}, nil
	}
	if strings.Contains(text, ":") {
		for _, layout := range []string{"15:04:05", "15:04"} { // a fraction of the seconds may follow
			if day, err := time.Parse(layout, text); err == nil {
				midnight := time.Date(day.Year(), day.Month(), day.Day(), 0, 0, 0, 0, time.UTC)
				return moment{text: text, since: day.Sub(midnight), clock: true}, nil
			}
		}
		return moment{}, usagef("%s %q is no time of day, such as 15:04:05", flag, text)
	}
	since, err := time.ParseDuration(text)
	if err != nil || since < 0 {
		return moment{}, usagef("%s %q is neither a time since the trace began, such as 10s, nor a time of day, such as 15:04:05", flag, text)
	}
	return moment{text: text, since: since}, nil
}

// resolve says which part of a trace is meant.
func (o *partOptions) resolve(src stream.Source) (cut.Part, error) {
	part := o.part
	part.From, part.To = o.from.in(src), o.to.in(src)
	if part.To > 0 && part.To <= max(part.From, src.Info().Begin) {
		return part, usagef("--to-time %s is not after the beginning: the trace begins at %s", o.to.text,
			time.Unix(0, src.Info().Wall).Format("15:04:05.000"))
	}
	return part, nil
}

// in is the moment by CLOCK_MONOTONIC; 0 if it is none. A time of day is that of the day on
// which the trace begins, or of the next if it was earlier that day by half a day or more:
// so a trace can go past midnight, and one can ask for a time just before it began.
func (m moment) in(src stream.Source) int64 {
	info := src.Info()
	if m.text == "" {
		return 0
	}
	if !m.clock {
		return later(info.Begin, m.since)
	}
	begin := time.Unix(0, info.Wall)
	hour, minute, second := int(m.since/time.Hour), int(m.since%time.Hour/time.Minute), int(m.since%time.Minute/time.Second)
	at := time.Date(begin.Year(), begin.Month(), begin.Day(), hour, minute, second, int(m.since%time.Second), begin.Location())
	if begin.Sub(at) >= 12*time.Hour {
		at = at.AddDate(0, 0, 1)
	}
	mono := info.Begin + int64(at.Sub(begin))
	// The wall clock may have been set meanwhile.
	return mono + at.UnixNano() - src.Wall(mono)
}

// later is the moment, by CLOCK_MONOTONIC in ns, that is d after another; the last one that there is
// if it would be after that.
func later(mono int64, d time.Duration) int64 {
	if mono > math.MaxInt64-int64(d) {
		return math.MaxInt64
	}
	return mono + int64(d)
}
