package gotrace_test

import (
	"golang.org/x/exp/trace"
)

// account is how long one goroutine was in each state, and how often it entered it. A wait
// counts by its reason.
type account struct {
	time  map[string]int64 // nanoseconds
	times map[string]int
}

// accounts are those of all goroutines of a Go execution trace between two moments.
type accounts struct {
	from, to int64
	of       map[trace.GoID]*account
	now      map[trace.GoID]since
	waits    bool                // all waits are one state
	within   map[trace.GoID]span // instead of from and to, if not nil
}

// since is the state that a goroutine is in.
type since struct {
	state string
	time  int64
}

func newAccounts(from, to int64) *accounts {
	return &accounts{from: from, to: to, of: map[trace.GoID]*account{}, now: map[trace.GoID]since{}}
}

// add takes the next event of a trace.
func (a *accounts) add(ev *trace.Event) {
	if ev.Kind() != trace.EventStateTransition {
		return
	}
	st := ev.StateTransition()
	if st.Resource.Kind != trace.ResourceGoroutine {
		return
	}
	id := st.Resource.Goroutine()
	from, to := st.Goroutine()
	if from == to {
		return
	}
	at := int64(ev.Time())
	a.leave(id, at)
	name := to.String()
	switch to {
	case trace.GoNotExist:
		delete(a.now, id)
		return
	case trace.GoWaiting:
		if !a.waits {
			name = st.Reason
		}
	}
	a.now[id] = since{name, at}
}

// leave counts the state that a goroutine leaves.
func (a *accounts) leave(id trace.GoID, at int64) {
	was, ok := a.now[id]
	if !ok {
		return
	}
	from, to := a.from, a.to
	if a.within != nil {
		from, to = a.within[id].from, a.within[id].to
	}
	begin, end := max(was.time, from), min(at, to)
	if begin >= end {
		return
	}
	one := a.of[id]
	if one == nil {
		one = &account{time: map[string]int64{}, times: map[string]int{}}
		a.of[id] = one
	}
	one.time[was.state] += end - begin
	one.times[was.state]++
}
