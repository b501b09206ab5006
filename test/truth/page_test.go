package truth_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"gopherscope/internal/testenv"
	"gopherscope/test/traced"
)

// page is what the tests use of the JSON of docs/usage/stat.md. They share no code with
// the tool.
type page struct {
	BeginNs    int64            `json:"begin_mono_ns"`
	EndNs      int64            `json:"end_mono_ns"`
	Procs      int              `json:"gomaxprocs"`
	Engine     string           `json:"engine"`
	Stacks     bool             `json:"stacks"`
	Lost       map[string]int64 `json:"lost"`
	Violations int64            `json:"violations"`
	Goroutines struct {
		Alive      int   `json:"alive"`
		Before     int   `json:"there_before"`
		LifetimeNs int64 `json:"lifetime_ns"`
	} `json:"goroutines"`
	States map[string]struct {
		TimeNs int64 `json:"time_ns"`
		Now    int   `json:"now"`
	} `json:"states"`
	Sched struct {
		dist
		BySite []schedSite `json:"by_site"`
	} `json:"sched"`
	Blocked []blockedRow `json:"blocked"`
	Exec    struct {
		EndedBy map[string]int64 `json:"ended_by"`
	} `json:"exec"`
	Syscalls struct {
		dist
		LostP   int64 `json:"lost_p"`
		LostPNs int64 `json:"lost_p_at_least_ns"`
	} `json:"syscalls"`
	FakeWaits []struct {
		dist
		Reason string `json:"reason"`
		Kind   string `json:"kind"`
	} `json:"fake_waits"`
	Wakes []struct {
		Waker *site  `json:"waker"`
		Via   string `json:"via"`
		Woken site   `json:"woken"`
		Count int64  `json:"count"`
	} `json:"wakes"`
	Sites []struct {
		site
		Created  int64            `json:"created"`
		Ended    int64            `json:"ended"`
		States   map[string]int64 `json:"states"`
		Lifetime dist             `json:"lifetime"`
	} `json:"sites"`
}

type site struct {
	CreatedBy *traced.Place `json:"created_by"`
}

type dist struct {
	Count   int64 `json:"count"`
	TotalNs int64 `json:"total_ns"`
	P50Ns   int64 `json:"p50_ns"`
	MaxNs   int64 `json:"max_ns"`
}

type schedSite struct {
	site
	dist
}

type blockedRow struct {
	site
	dist
	Reason string `json:"reason"`
	Func   string `json:"func"`
	TimeNs int64  `json:"time_ns"`
}

func readPages(t *testing.T, path string) []page {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var pages []page
	for line := range bytes.Lines(data) {
		var p page
		if err := json.Unmarshal(line, &p); err != nil {
			t.Fatalf("%v in line: %s", err, line)
		}
		pages = append(pages, p)
	}
	return pages
}

// measured is what the program measured of one way to wait.
type measured struct {
	count           int64
	total, max, p50 time.Duration
}

// run is what was said of one run of the program, by the tool and by the program.
type run struct {
	t     *testing.T
	pages []page
	facts testenv.Facts
	truth map[string]measured
	sites map[string]testenv.Site
}

func newRun(t *testing.T, pages []page, lines []string) *run {
	t.Helper()
	r := &run{t: t, pages: pages, facts: testenv.ParseFacts(t, lines), truth: map[string]measured{}, sites: testenv.SitesIn(t, "truth")}
	for _, line := range lines {
		var key string
		var m measured
		if n, _ := fmt.Sscanf(line, "truth %s %d %d %d %d", &key, &m.count, &m.total, &m.max, &m.p50); n == 5 {
			r.truth[key] = m
		}
	}
	for _, key := range []string{"mutex", "chan", "select", "sleep", "brief", "gomaxprocs", "queue", "syscall", "memstats"} {
		if r.truth[key].count == 0 {
			t.Fatalf("the program says nothing of %q: %v", key, lines)
		}
	}
	return r
}

// at says whether a place is the go statement that the program's source marks so.
func (r *run) at(p *traced.Place, key string) bool {
	want, ok := r.sites[key]
	if !ok {
		r.t.Fatalf("no site %q in the program", key)
	}
	return p != nil && filepath.Base(p.File) == want.File && p.Line == want.Line
}

// blocked are the rows of a reason at a site, of all pages.
func (r *run) blocked(reason, key string) (rows []blockedRow) {
	for _, p := range r.pages {
		for _, b := range p.Blocked {
			if b.Reason == reason && r.at(b.CreatedBy, key) {
				rows = append(rows, b)
			}
		}
	}
	return rows
}

// states is the time, in ns, that the goroutines of a site were in each state.
func (r *run) states(key string) map[string]int64 {
	out := map[string]int64{}
	for _, p := range r.pages {
		for _, s := range p.Sites {
			if r.at(s.CreatedBy, key) {
				for name, ns := range s.States {
					out[name] += ns
				}
			}
		}
	}
	return out
}
