package cli

import (
	"testing"
	"time"

	"gopherscope/internal/event"
	"gopherscope/internal/profile"
)

// TestProfileText wants times as all other messages have them.
func TestProfileText(t *testing.T) {
	p := &profile.Profile{Kind: profile.Block, Samples: []profile.Sample{
		{Stack: []event.Location{{Func: "main.recv"}}, Delay: 5*time.Minute + 123456789},
		{Stack: []event.Location{{Func: profile.UnknownStack}}, Delay: 26 * time.Second},
	}}
	want := "block: 5m26s of goroutine time in 2 samples, 8 % of it with an unknown stack"
	if got := profileText(p); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	p.Samples[0].Delay, p.Samples = 6_272_868_000, p.Samples[:1]
	if got, want := profileText(p), "block: 6.27s of goroutine time in 1 samples"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
