// Package elapsed writes for how long something lasted, in the one form that all tables and
// messages have: with three or four digits, which is what can be compared at a glance and
// is known of what was measured. [time.Duration.String] has up to fifteen.
package elapsed

import (
	"strconv"
	"time"
)

// units are those below a minute. What would be limit of a unit or more, once rounded, has
// the next one.
var units = [...]struct {
	size  time.Duration
	limit float64
	name  string
}{
	{time.Microsecond, 999.95, "µs"}, {time.Millisecond, 999.95, "ms"}, {time.Second, 59.95, "s"},
}

// Text is d as [Append] writes it.
func Text(d time.Duration) string { return string(Append(nil, d)) }

// Append appends d to b: 812ns, 41.2µs, 3.41s; from a minute on as a clock has it, of which
// what is left over is cut off: 5m26s, 2h05m, and from a hundred hours on 12d.
func Append(b []byte, d time.Duration) []byte {
	if d < time.Microsecond { // also what is negative, which no time is: it is shown as it is
		return append(strconv.AppendInt(b, int64(d), 10), "ns"...)
	}
	for i := range units {
		u := &units[i]
		v := float64(d) / float64(u.size)
		if v >= u.limit {
			continue
		}
		digits := 2
		if v >= 9.995 {
			digits = 1
		}
		return append(strconv.AppendFloat(b, v, 'f', digits, 64), u.name...)
	}
	d = max(d, time.Minute) // 59.96 s are rounded
	switch {
	case d < time.Hour:
		return appendTwo(b, d, time.Minute, time.Second, "ms")
	case d < 100*time.Hour:
		return appendTwo(b, d, time.Hour, time.Minute, "hm")
	}
	return append(strconv.AppendInt(b, int64(d/(24*time.Hour)), 10), 'd')
}

// appendTwo appends d in two units, of which the smaller has two digits. names has a
// letter for each.
func appendTwo(b []byte, d, unit, smaller time.Duration, names string) []byte {
	b = append(strconv.AppendInt(b, int64(d/unit), 10), names[0])
	rest := d % unit / smaller
	return append(b, '0'+byte(rest/10), '0'+byte(rest%10), names[1])
}
