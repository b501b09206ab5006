package summary

import (
	"strings"

	"gopherscope/internal/event"
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

// passing are the packages whose code only hands on a wait: the one who waits is the
// innermost function that is in none of them.
var passing = map[string]bool{
	"runtime": true, "sync": true, "syscall": true, "time": true, "os": true, "io": true,
	"bufio": true, "net": true, "context": true, "iter": true, "crypto/tls": true,
}

// UserFunc is the innermost function of a stack that is not in a package of the
// standard library which only hands on a wait; "" if there is none.
func UserFunc(stack []event.Location) string {
	for _, l := range stack {
		pkg := packageOf(l.Func)
		if passing[pkg] || within(pkg, "internal") || within(pkg, "runtime") || within(pkg, "sync") {
			continue
		}
		return l.Func
	}
	return ""
}

// within says whether a package is root or below it.
func within(pkg, root string) bool {
	rest, ok := strings.CutPrefix(pkg, root)
	return ok && (rest == "" || rest[0] == '/')
}

// packageOf is the package path of a function: "net/http" of
// "net/http.(*Server).Serve". Dots in the last element of a path are escaped there.
func packageOf(fn string) string {
	slash := strings.LastIndexByte(fn[:argsAt(fn)], '/') + 1
	name, _, _ := strings.Cut(fn[slash:], ".")
	return fn[:slash] + name
}

// argsAt is where the type arguments of a function begin, in which there can be paths,
// too.
func argsAt(fn string) int {
	if i := strings.IndexByte(fn, '['); i >= 0 {
		return i
	}
	return len(fn)
}
