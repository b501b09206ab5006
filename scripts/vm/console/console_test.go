package console

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// A whole console: firmware's escapes, the kernel's words, a step that leaves its line
// open, one whose machine ended before it did.
func TestRead(t *testing.T) {
	text := "\x1bc\x1b[?7l\x1b[2JSeaBIOS\r\n[    0.000000] Kernel panic\r\n" +
		Begin("first") + "\r\none\r\ntwo" + End("first", 3, 1500*time.Millisecond) + "\r\n" +
		"[    9.000000] between\r\n" + Begin("second") + "\r\nhalf\r\n"
	var seen []string
	results, outside, err := Read(strings.NewReader(text), func(line string) { seen = append(seen, line) })
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"SeaBIOS", "[    0.000000] Kernel panic", "[    9.000000] between"}; !slices.Equal(outside, want) {
		t.Errorf("outside of steps: %q, want %q", outside, want)
	}
	if len(results) != 2 {
		t.Fatalf("%d results: %+v", len(results), results)
	}
	first, second := results[0], results[1]
	if first.Name != "first" || !first.Ended || first.Code != 3 || first.Took != 1500*time.Millisecond || !slices.Equal(first.Output, []string{"one", "two"}) {
		t.Errorf("the first step: %+v", first)
	}
	if second.Name != "second" || second.Ended || second.Code != -1 || !slices.Equal(second.Output, []string{"half"}) {
		t.Errorf("the second step, which did not end: %+v", second)
	}
	if len(seen) != 6 {
		t.Errorf("%d lines passed on: %q", len(seen), seen)
	}
}

// What the guest says of itself is an error, and the results until then are there.
func TestReadFailed(t *testing.T) {
	text := Begin("a") + "\n" + End("a", 0, 0) + "\n" + Failed(errors.New("mount /proc: no such device")) + "\n"
	results, _, err := Read(strings.NewReader(text), func(string) {})
	if err == nil || !strings.Contains(err.Error(), "mount /proc: no such device") {
		t.Errorf("error %v", err)
	}
	if len(results) != 1 || !results[0].Ended {
		t.Errorf("results %+v", results)
	}
}
