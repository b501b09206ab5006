package report

import (
	"encoding/json"
	"fmt"
	"io"

	"gopherscope/internal/dump"
)

// jsonObject is an object's JSON form; the order of the keys is the order in the
// line. Of the three states it has that of its kind.
type jsonObject struct {
	Type string `json:"type"`
	Kind string `json:"kind"`
	Addr string `json:"addr,omitempty"`
	*jsonChan
	*jsonLock
	*jsonCounter
	Verdict     string       `json:"verdict"`
	WaiterCount int          `json:"waiter_count"`
	Waiters     []jsonWaiter `json:"waiters"`
	Refs        []jsonRef    `json:"refs"`
	RefsMore    int          `json:"refs_more,omitempty"`
	Global      string       `json:"global"`
}

// jsonName is a name from the traced program, with nothing in it that could control
// a terminal.
type jsonName string

// MarshalJSON implements json.Marshaler.
func (n jsonName) MarshalJSON() ([]byte, error) { return appendQuotedJSON(nil, string(n)), nil }

type jsonChan struct {
	Elem      jsonName `json:"elem,omitempty"`
	Len       uint64   `json:"len"`
	Cap       uint64   `json:"cap"`
	Closed    bool     `json:"closed"`
	Timer     bool     `json:"timer"`
	Receivers int      `json:"receivers"`
	Senders   int      `json:"senders"`
	QueueCut  bool     `json:"queue_cut,omitempty"`
}

type jsonLock struct {
	Locked   bool  `json:"locked"`
	Starving bool  `json:"starving"`
	Queued   int   `json:"queued"`
	Writer   *bool `json:"writer,omitempty"`
	Readers  *int  `json:"readers,omitempty"`
}

type jsonCounter struct {
	Counter int `json:"counter"`
	Waiting int `json:"waiting"`
}

type jsonWaiter struct {
	How    string   `json:"how"`
	Select bool     `json:"select"`
	Func   jsonName `json:"func,omitempty"`
	File   jsonName `json:"file,omitempty"`
	Line   int32    `json:"line,omitempty"`
	GoIDs  []uint64 `json:"goids"`
}

type jsonRef struct {
	GoID uint64 `json:"goid"`
	Near bool   `json:"near"`
}

var globalNames = [...]string{
	dump.GlobalNone: "none", dump.GlobalNear: "near", dump.GlobalExact: "exact", dump.GlobalSelf: "self",
}

type jsonCycle struct {
	Type    string   `json:"type"`
	GoIDs   []uint64 `json:"goids"`
	Objects []string `json:"objects"`
	Global  bool     `json:"global"`
}

type jsonWaitingSummary struct {
	Type       string `json:"type"`
	PID        int    `json:"pid"`
	Time       string `json:"time,omitempty"`
	Goroutines int    `json:"goroutines"`
	Torn       int    `json:"torn"`
	*jsonFound
	Error jsonName `json:"error,omitempty"`
}

// jsonFound is what a search that came to its end found.
type jsonFound struct {
	Waiters    int `json:"waiters"`
	Objects    int `json:"objects"`
	Cycles     int `json:"cycles"`
	Moved      int `json:"moved"`
	Unknown    int `json:"unknown"`
	Unsearched int `json:"unsearched"`
}

// JSON writes one JSON object a line: the objects, the cycles, a summary.
// docs/usage/waiting-on.md has the keys.
func (r *Waiting) JSON(w io.Writer) error {
	b := buffer{w: w}
	write := func(v any) error {
		line, err := json.Marshal(v)
		if err != nil {
			return err
		}
		return b.line(append(append(b.b, line...), '\n'))
	}
	found := r.Waiting
	if found == nil {
		found = &dump.Waiting{}
	}
	for i := range found.Objects {
		if o := &found.Objects[i]; r.shows(o) {
			if err := write(r.jsonObject(o)); err != nil {
				return err
			}
		}
	}
	for i := range found.Cycles {
		if c := &found.Cycles[i]; r.showsCycle(c) {
			if err := write(r.jsonCycle(c)); err != nil {
				return err
			}
		}
	}
	if err := write(r.jsonSummary()); err != nil {
		return err
	}
	return b.Flush()
}

func (r *Waiting) jsonSummary() *jsonWaitingSummary {
	d := r.Dump
	sum := &jsonWaitingSummary{
		Type: "summary", PID: d.PID, Time: jsonTime(d.Time), Goroutines: len(d.Goroutines), Torn: d.Torn,
		Error: jsonName(ErrorText(r.Err)),
	}
	if w := r.Waiting; w != nil {
		sum.jsonFound = &jsonFound{w.Waiters, len(w.Objects), len(w.Cycles), w.Moved, w.Unknown, w.Unsearched}
	}
	return sum
}

func (r *Waiting) jsonObject(o *dump.WaitObject) *jsonObject {
	j := &jsonObject{
		Type: "object", Kind: o.Kind.String(), Verdict: o.Verdict().String(), WaiterCount: len(o.Waiters),
		Refs: make([]jsonRef, len(o.Refs)), RefsMore: o.RefsMore, Global: globalNames[o.Global],
	}
	if o.Addr != 0 {
		j.Addr = address(o)
	}
	switch o.Kind {
	case dump.KindChan:
		c := &o.Chan
		j.jsonChan = &jsonChan{jsonName(c.Elem), c.Len, c.Cap, c.Closed, c.Timer, c.Receivers, c.Senders, c.QueueCut}
	case dump.KindMutex:
		j.jsonLock = &jsonLock{Locked: o.Lock.Locked, Starving: o.Lock.Starving, Queued: o.Lock.Queued}
	case dump.KindRWMutex:
		j.jsonLock = &jsonLock{o.Lock.Locked, o.Lock.Starving, o.Lock.Queued, &o.Lock.Writer, &o.Lock.Readers}
	case dump.KindWaitGroup:
		j.jsonCounter = &jsonCounter{o.Group.Counter, o.Group.Waiting}
	}
	for _, g := range r.fold(o) {
		j.Waiters = append(j.Waiters, jsonWaiter{g.how.String(), g.isCase, jsonName(g.place.Func), jsonName(g.place.File), g.place.Line, g.ids})
	}
	for i, ref := range o.Refs {
		j.Refs[i] = jsonRef{r.Dump.Goroutines[ref.G].ID, ref.Near}
	}
	return j
}

func (r *Waiting) jsonCycle(c *dump.WaitCycle) *jsonCycle {
	j := &jsonCycle{Type: "cycle", Global: c.Global}
	for _, g := range c.Goroutines {
		j.GoIDs = append(j.GoIDs, r.Dump.Goroutines[g].ID)
	}
	for _, o := range c.Objects {
		j.Objects = append(j.Objects, address(&r.Waiting.Objects[o]))
	}
	return j
}

func address(o *dump.WaitObject) string { return fmt.Sprintf("%#x", o.Addr) }
