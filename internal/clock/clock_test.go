package clock

import (
	"testing"
	"time"
)

func TestWall(t *testing.T) {
	c, err := New()
	if err != nil {
		t.Fatal(err)
	}
	mono, err := Mono()
	if err != nil {
		t.Fatal(err)
	}
	if d := time.Since(time.Unix(0, c.Wall(mono))); d < -time.Second || d > time.Second {
		t.Errorf("the present is %v away from the wall clock", d)
	}
	before := c.Wall(mono)
	if err := c.Refresh(); err != nil {
		t.Fatal(err)
	}
	if got := c.Wall(mono) - before; got < -tolerance || got > tolerance {
		t.Errorf("Refresh moved a time by %d ns on a steady clock", got)
	}
}
