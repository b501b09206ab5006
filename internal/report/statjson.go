package report

import (
	"io"
)

// NewStatJSON writes one JSON object a page. docs/usage/stat.md has the keys.
func NewStatJSON(w io.Writer) Stats { return &statJSON{buffer: buffer{w: w}} }

type statJSON struct {
	buffer
	stamp stamp
}

// jsonStat is a page; the order of the keys is the order in the line.
type jsonStat struct {
	Type        string                   `json:"type"`
	Time        string                   `json:"time"`
	BeginNs     int64                    `json:"begin_mono_ns"`
	EndNs       int64                    `json:"end_mono_ns"`
	DurationNs  int64                    `json:"duration_ns"`
	PID         int                      `json:"pid"`
	Exe         jsonName                 `json:"exe"`
	Command     []jsonName               `json:"command"`
	GoVersion   jsonName                 `json:"go_version"`
	Procs       int                      `json:"gomaxprocs"`
	Engine      jsonName                 `json:"engine"`
	Stacks      bool                     `json:"stacks"`
	Events      uint64                   `json:"events"`
	Lost        jsonLost                 `json:"lost"`
	Violations  uint64                   `json:"violations"`
	Gaps        uint64                   `json:"gaps"`
	UntracedNs  int64                    `json:"untraced_ns"`
	Cost        jsonCost                 `json:"cost"`
	Goroutines  jsonPopulation           `json:"goroutines"`
	States      map[string]jsonStateTime `json:"states"`
	Sched       jsonSched                `json:"sched"`
	Blocked     []jsonBlocked            `json:"blocked"`
	BlockedRows int                      `json:"blocked_rows"`
	Exec        jsonExec                 `json:"exec"`
	Syscalls    jsonSyscalls             `json:"syscalls"`
	Cgo         jsonDist                 `json:"cgo"`
	FakeWaits   []jsonFakeWait           `json:"fake_waits"`
	Wakes       []jsonWake               `json:"wakes"`
	WakeRows    int                      `json:"wake_rows"`
	Sites       []jsonSiteRow            `json:"sites"`
	SiteRows    int                      `json:"site_rows"`
	Busiest     []jsonGoroutine          `json:"busiest"`
	LongWaits   []jsonGoroutine          `json:"long_waits"`
}

type jsonPopulation struct {
	Alive    int    `json:"alive"`
	Unsure   int    `json:"unsure"`
	Before   uint64 `json:"there_before"`
	Found    uint64 `json:"found"`
	Missed   uint64 `json:"missed"`
	Created  uint64 `json:"created"`
	Ended    uint64 `json:"ended"`
	Lifetime int64  `json:"lifetime_ns"`
}

type jsonStateTime struct {
	TimeNs int64 `json:"time_ns"`
	Now    int   `json:"now"`
}

type jsonDist struct {
	Count      uint64 `json:"count"`
	TotalNs    int64  `json:"total_ns"`
	MeanNs     int64  `json:"mean_ns"`
	P50        int64  `json:"p50_ns"`
	P90        int64  `json:"p90_ns"`
	P99        int64  `json:"p99_ns"`
	P999       int64  `json:"p999_ns"`
	Max        int64  `json:"max_ns"`
	AtLeast    uint64 `json:"at_least_count"`
	MaxAtLeast bool   `json:"max_at_least"`
}

type jsonSite struct {
	CreatedBy *jsonSpot `json:"created_by"`
	Start     *jsonSpot `json:"start"`
	Runtime   bool      `json:"runtime"`
}

type jsonSpot struct {
	Func jsonName `json:"func"`
	File jsonName `json:"file"`
	Line int      `json:"line"`
}

type jsonSched struct {
	jsonDist
	Histogram []jsonBucket       `json:"histogram"`
	BySite    []jsonSchedAtASite `json:"by_site"`
}

type jsonBucket struct {
	UpTo  int64  `json:"up_to_ns"`
	Count uint64 `json:"count"`
}

type jsonSchedAtASite struct {
	jsonSite
	jsonDist
}

type jsonBlocked struct {
	Reason jsonName `json:"reason"`
	Func   jsonName `json:"func"`
	jsonSite
	TimeNs int64 `json:"time_ns"`
	jsonDist
	Now         int   `json:"now"`
	OpenNs      int64 `json:"open_ns"`
	OpenAtLeast bool  `json:"open_at_least"`
}

type jsonExec struct {
	jsonDist
	EndedBy map[string]uint64 `json:"ended_by"`
}

type jsonSyscalls struct {
	jsonDist
	LostP   uint64 `json:"lost_p"`
	LostPNs int64  `json:"lost_p_at_least_ns"`
}

type jsonFakeWait struct {
	Reason jsonName `json:"reason"`
	Kind   string   `json:"kind"`
	jsonDist
}

type jsonWake struct {
	From  *jsonSite `json:"waker"`
	Via   string    `json:"via"`
	To    jsonSite  `json:"woken"`
	Count uint64    `json:"count"`
}

type jsonSiteRow struct {
	jsonSite
	Alive    int              `json:"alive"`
	Created  int              `json:"created"`
	Ended    int              `json:"ended"`
	States   map[string]int64 `json:"states"`
	Lifetime jsonDist         `json:"lifetime"`
}

type jsonGoroutine struct {
	GoID uint64 `json:"goid"`
	PID  uint32 `json:"pid"`
	jsonSite
	State   string           `json:"state"`
	States  map[string]int64 `json:"states"`
	Longest int64            `json:"longest_wait_ns"`
	AtLeast bool             `json:"longest_at_least"`
	Reason  jsonName         `json:"reason"`
	Func    jsonName         `json:"func"`
}
