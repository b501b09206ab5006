package tui

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// columnID names a column.
type columnID uint8

const (
	colGoid columnID = iota
	colState
	colCount
	colRunning
	colRunnable
	colSyscall
	colWaiting
	colRan
	colLongest
	colSchedWait
	colRate
	colBlocked
	colName
)

// column is a column of a table.
type column struct {
	id    columnID
	title string
	width int
	left  bool // aligned so, and sorted from the lowest on at first
	// keep says which columns go when there is no room: the lowest first.
	keep  int
	group bool // of a table of groups
	one   bool // of a table of goroutines
	rates bool // with an engine only
}

// columns are all columns in their order.
var columns = [...]column{
	{id: colGoid, title: "GOID", width: 9, keep: 9, one: true},
	{id: colState, title: "STATE", width: 20, left: true, keep: 8, one: true},
	{id: colCount, title: "COUNT", width: 7, keep: 9, group: true},
	{id: colRunning, title: "RUNNING", width: 8, keep: 3, group: true},
	{id: colRunnable, title: "RUNNABLE", width: 9, keep: 4, group: true},
	{id: colSyscall, title: "SYSCALL", width: 8, keep: 2, group: true},
	{id: colWaiting, title: "WAITING", width: 8, keep: 1, group: true},
	{id: colRan, title: "RAN", width: 6, keep: 5, group: true, one: true},
	{id: colLongest, title: "LONGEST", width: 8, keep: 4, group: true, one: true},
	{id: colSchedWait, title: "SCHED P99", width: 10, keep: 6, group: true, one: true, rates: true},
	{id: colRate, title: "TRANS/S", width: 8, keep: 7, group: true, one: true, rates: true},
	{id: colBlocked, title: "BLOCKED/S", width: 10, keep: 7, group: true, one: true, rates: true},
	{id: colName, keep: 10, left: true, group: true, one: true},
}

// minName is how much room the last column has at least, before others go.
const minName = 28

// ordering is how a table is sorted.
type ordering struct {
	by       columnID
	reversed bool // against the column's natural order: amounts from the highest on, text and goids from the lowest
}

// fit are the columns that a table of that kind shows in so many cells, and how much
// room the last one has. The sorted one always stays.
func fit(goroutines, rates bool, by columnID, cells int) (cols []column, name int) {
	for _, c := range columns {
		if (goroutines && c.one || !goroutines && c.group) && (rates || !c.rates) {
			cols = append(cols, c)
		}
	}
	for {
		name = cells - len(cols) + 1 // a space after each but the last
		for _, c := range cols {
			name -= c.width
		}
		if name >= minName {
			return cols, name
		}
		drop := -1
		for i, c := range cols {
			if c.id != by && c.keep < 9 && (drop < 0 || c.keep < cols[drop].keep) {
				drop = i
			}
		}
		if drop < 0 {
			return cols, max(name, 0)
		}
		cols = slices.Delete(cols, drop, drop+1)
	}
}

// cell is what a row has in a column.
func (c *column) cell(r *row, rates *Rates) string {
	switch c.id {
	case colGoid:
		return r.key
	case colState:
		return r.what
	case colCount:
		return strconv.Itoa(r.count)
	case colRunning, colRunnable, colSyscall, colWaiting:
		return dash(r.states[c.id.state()])
	case colRan:
		if r.goid != 0 {
			return [...]string{"-", "yes"}[r.ran]
		}
		return dash(r.ran)
	case colLongest:
		if r.longest == 0 {
			return "-"
		}
		return duration(r.longest)
	case colSchedWait:
		if len(r.figures.sched) == 0 {
			return "-"
		}
		return duration(r.sched)
	case colRate:
		return amount(perSecond(float64(r.figures.Transitions), rates.For))
	case colBlocked:
		return duration(time.Duration(perSecond(float64(r.figures.Blocked), rates.For)))
	}
	return r.name
}

// dash is a number, or what is easier to overlook than a 0.
func dash(n int) string {
	if n == 0 {
		return "-"
	}
	return strconv.Itoa(n)
}

// perSecond is an amount of a time for each second of it.
func perSecond(v float64, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return v / d.Seconds()
}

// ascends says whether the lowest comes first in a column's natural order.
func (c *column) ascends() bool { return c.id == colGoid || c.id == colState || c.id == colName }

// state is the state that a column counts.
func (id columnID) state() stateKind { return stateRunning + stateKind(id-colRunning) }

// compare puts two rows in the natural order of a column.
func compare(by columnID, a, b *row) int {
	switch by {
	case colGoid:
		return cmp.Compare(a.goid, b.goid)
	case colState:
		return cmp.Compare(a.what, b.what)
	case colCount:
		return cmp.Compare(b.count, a.count)
	case colRunning, colRunnable, colSyscall, colWaiting:
		return cmp.Compare(b.states[by.state()], a.states[by.state()])
	case colRan:
		return cmp.Compare(b.ran, a.ran)
	case colLongest:
		return cmp.Compare(b.longest, a.longest)
	case colSchedWait:
		return cmp.Compare(b.sched, a.sched)
	case colRate:
		return cmp.Compare(b.figures.Transitions, a.figures.Transitions)
	case colBlocked:
		return cmp.Compare(b.figures.Blocked, a.figures.Blocked)
	}
	return cmp.Compare(a.name, b.name)
}

// arrange sorts rows. Those that are equal are in the order of their names, so that
// they do not dance.
func arrange(rows []row, o ordering) {
	slices.SortFunc(rows, func(a, b row) int {
		c := compare(o.by, &a, &b)
		if o.reversed {
			c = -c
		}
		return cmp.Or(c, cmp.Compare(a.name, b.name), cmp.Compare(a.goid, b.goid))
	})
}

// filter are the rows with a text that matches.
func filter(rows []row, re *regexp.Regexp) []row {
	if re == nil {
		return rows
	}
	return slices.DeleteFunc(rows, func(r row) bool {
		if r.goid != 0 && (re.MatchString(r.key) || re.MatchString(r.what)) {
			return false
		}
		return !re.MatchString(r.name)
	})
}
