package trigger

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	ms := float64(time.Millisecond)
	one := func(f Figure, op Op, bound float64) Condition { return Condition{Terms: []Term{{f, op, bound, false}}} }
	for text, want := range map[string]Condition{
		"goroutines > 100":              one(Figure{Name: goroutines}, Greater, 100),
		" running>=2 ":                  one(Figure{Name: running}, AtLeast, 2),
		"syscall<1":                     one(Figure{Name: syscall}, Less, 1),
		"runnable <= 0":                 one(Figure{Name: runnable}, AtMost, 0),
		"waiting['chan receive'] > 5":   one(Figure{Name: waiting, Reason: "chan receive"}, Greater, 5),
		"waiting [ \"IO wait\" ] > 5":   one(Figure{Name: waiting, Reason: "IO wait"}, Greater, 5),
		"sched.p999 > 1.5ms":            one(Figure{Name: sched, Part: "p999"}, Greater, 1.5*ms),
		"block.p99 > 10µs":              one(Figure{Name: block, Part: "p99"}, Greater, ms/100),
		"block['IO wait'].total > 1m1s": one(Figure{Name: block, Reason: "IO wait", Part: "total"}, Greater, 61_000*ms),
		"created > 2.5k":                one(Figure{Name: created}, Greater, 2500),
		"created > 1M":                  one(Figure{Name: created}, Greater, 1e6),
		"lost > 0":                      one(Figure{Name: lost}, Greater, 0),
		"goroutines > 2x":               {Terms: []Term{{Figure{Name: goroutines}, Greater, 2, true}}},
		"sched.max < 0.5x for 1.5s":     {Terms: []Term{{Figure{Name: sched, Part: "max"}, Less, 0.5, true}}, For: 1500 * time.Millisecond},
		"runnable > 20 and sched.p50 > 1ms and lost < 1 for 3s": {
			Terms: []Term{{Figure{Name: runnable}, Greater, 20, false}, {Figure{Name: sched, Part: "p50"}, Greater, ms, false}, {Figure{Name: lost}, Less, 1, false}},
			For:   3 * time.Second,
		},
	} {
		want.Text = text
		got, err := Parse(text)
		if err != nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("%s: %+v, %v, want %+v", text, got, err, want)
		}
	}
}

// TestSyntaxErrors has the place of each error under it.
func TestSyntaxErrors(t *testing.T) {
	for _, c := range []struct{ text, place, msg, hint string }{
		{"", "^", `the end is no figure`, "figures are goroutines, running,"},
		{"gorutines > 200", "^", `"gorutines" is no figure`, "did you mean goroutines?"},
		{"200 < runnable", "^", `"200" is no figure`, "such as runnable > 200"},
		{"runnable 200", "         ^", `"200" is no comparison`, ">, >=, < or <="},
		{"runnable == 200", "         ^", `"=" is no comparison`, ">="},
		{"runnable > ", "           ^", "a value is missing: the end is none", "200"},
		{"runnable > 10ms", "           ^", `runnable is a number, and "10ms" is none`, "200"},
		{"runnable > -1", "           ^", `a value is missing: "-" is none`, "200"},
		{"sched.p99 > 10", "            ^", `sched.p99 is a duration, and "10" is none`, "10ms"},
		{"sched > 10ms", "      ^", "which part of sched is missing", "p50, p90, p99, p999, max, total"},
		{"sched.p98 > 10ms", "      ^", `"p98" is no part of sched`, "such as sched.p99"},
		{"sched['x'].p99 > 1s", "     ^", "which part of sched is missing", "sched.p99"},
		{"runnable['x'] > 1", "        ^", "runnable is not counted by reason", "waiting"},
		{"runnable.p99 > 1", "        ^", "runnable is a number and has no parts", "runnable > 200"},
		{"waiting[chan] > 1", "        ^", `a wait reason is missing: "chan" is none`, "'chan receive'"},
		{"waiting[''] > 1", "        ^", `a wait reason is missing: "" is none`, "'chan receive'"},
		{"waiting['x > 1", "        ^", `a wait reason is missing: a quote without its end is none`, "'chan receive'"},
		{"waiting['x' > 1", "            ^", `a ] is missing before ">"`, "brackets"},
		{"goroutines > 0x", "             ^", `"0x" is no factor`, "2x"},
		{"goroutines > 1.2.3", "             ^", `goroutines is a number, and "1.2.3" is none`, "200"},
		{"goroutines > 2 for", "                  ^", "after for a duration is missing: the end is none", "3s"},
		{"goroutines > 2 for 0s", "                   ^", `after for a duration is missing: "0s" is none`, "3s"},
		{"goroutines > 2 or lost > 1", "               ^", `"or" is not expected here`, "and"},
		{"goroutines > 2 for 3s and lost > 1", "                      ^", `"and" is not expected here`, "ends"},
		{"lost > 1 and", "            ^", "the end is no figure", "figures are"},
		{"lost > 1 \xff", "         ^", `"\xff" is not expected here`, "ends"},
	} {
		_, err := Parse(c.text)
		var e *SyntaxError
		if !errors.As(err, &e) {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if e.Msg != c.msg || e.At != len(c.place)-1 || !strings.Contains(e.Hint, c.hint) || e.Text != c.text {
			t.Errorf("%s\n%s^ %s (%s)\nwant\n%s %s", c.text, strings.Repeat(" ", e.At), e.Msg, e.Hint, c.place, c.msg)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"runnable > 200", "block['IO wait'].p99 >= 1.5ms and lost < 2x for 3s", "waiting[\"a'b\"] > 1k", "sched.p99 > 10", "\xff'"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse(text)
		var e *SyntaxError
		switch {
		case errors.As(err, &e):
			if e.At < 0 || e.At > len(text) || e.Msg == "" || e.Hint == "" || e.Text != text {
				t.Errorf("%q: %+v", text, e)
			}
			return
		case err != nil || len(c.Terms) == 0 || c.For < 0:
			t.Fatalf("%q: %+v, %v", text, c, err)
		}
		for _, term := range c.Terms {
			if term.Bound < 0 || term.Bound != term.Bound {
				t.Errorf("%q: bound %v", text, term.Bound)
			}
			// A figure is written as it is read.
			again, err := Parse(term.Figure.String() + " > 1x")
			if err != nil || again.Terms[0].Figure != term.Figure {
				t.Errorf("%q: %v of %v, %v", text, again, term.Figure, err)
			}
		}
	})
}
