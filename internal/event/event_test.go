package event_test

import (
	"testing"

	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
)

// TestEnds wants only a change to dead to be a goroutine's last, and not that of the
// goroutine of an extra M, which C calls again.
func TestEnds(t *testing.T) {
	for _, tt := range []struct {
		e    event.Event
		want bool
	}{
		{event.Event{From: goruntime.Running, To: goruntime.Dead, Via: event.ViaExit}, true},
		{event.Event{From: goruntime.Syscall, To: goruntime.Dead, Via: event.ViaExtraM}, false},
		{event.Event{From: goruntime.Syscall, To: goruntime.DeadExtra, Via: event.ViaExtraM}, false}, // Go 1.26
		{event.Event{From: goruntime.Dead, To: goruntime.Runnable, Birth: &event.Birth{}}, false},
		{event.Event{Kind: event.Snapshot, To: goruntime.Dead}, false},
		{event.Event{Kind: event.Exit, To: goruntime.Dead}, false},
	} {
		if got := tt.e.Ends(); got != tt.want {
			t.Errorf("%v from %v to %v via %v: %v", tt.e.Kind, tt.e.From, tt.e.To, tt.e.Via, got)
		}
	}
}
