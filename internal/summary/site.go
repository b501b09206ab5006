package summary

import (
	"strings"

	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
)

// Site is where goroutines are created: the go statement, or where that is not known
// (the runtime's own goroutines, the main goroutine) the function that they begin at.
type Site struct {
	CreatedBy event.Location // zero if unknown
	Start     event.Location // the function of the first goroutine seen; zero if unknown
}

// Runtime says whether the goroutines are the runtime's own (runtime/traceback.go,
// isSystemGoroutine, Go 1.18 to 1.27). The one that runs finalizers counts as such, also
// while it is in the program's code.
func (s *Site) Runtime() bool {
	switch s.Start.Func {
	case "runtime.main", "runtime.corostart", "runtime.handleAsyncEvent":
		return false
	}
	return strings.HasPrefix(s.Start.Func, "runtime.")
}

// siteKey tells sites apart.
type siteKey struct {
	place   event.Location
	isStart bool
}

// site is what is kept of a Site.
type site struct {
	Site
	alive, created, ended int
	time                  [NumStates]int64 // ns in this interval
	sched                 Durations        // runnable to running
	lifetime              Durations
}

// siteOf is the site of a birth, which may be nil.
func (s *Summary) siteOf(b *event.Birth) *site {
	if b == nil {
		return s.noSite
	}
	key := siteKey{place: b.CreatedBy}
	if key.place == (event.Location{}) {
		key = siteKey{place: b.Start, isStart: true}
	}
	if key.place == (event.Location{}) {
		return s.noSite
	}
	st := s.sites[key]
	if st == nil {
		st = &site{Site: Site{CreatedBy: b.CreatedBy, Start: b.Start}}
		s.sites[key] = st
		s.siteList = append(s.siteList, st)
	}
	return st
}

// UserFunc is the innermost function of a stack that is not in a package of the
// standard library which only hands on a wait; "" if there is none.
func UserFunc(stack []event.Location) string {
	for _, l := range stack {
		if !goruntime.Passing(l.Func) {
			return l.Func
		}
	}
	return ""
}
