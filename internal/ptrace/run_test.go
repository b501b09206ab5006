package ptrace

import (
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestGone takes a thread for the one that it is only: a number can be given away anew before
// anybody looks whether the thread is still there.
func TestGone(t *testing.T) {
	here, end := make(chan result), make(chan struct{})
	go runLocked(func() error {
		tid := unix.Gettid()
		begin, err := threadBegin(tid)
		here <- result{tid, begin, err}
		<-end
		return nil
	}, make(chan result, 1), nil)
	r := <-here
	if r.err != nil || r.begin == "" {
		t.Fatalf("%+v", r)
	}
	for _, tt := range []struct {
		begin string
		gone  bool
	}{{r.begin, false}, {"1", true}, {"", false}} {
		if other := (result{tid: r.tid, begin: tt.begin}); other.gone() != tt.gone {
			t.Errorf("a thread that began at %s is there, one that began at %q is gone: %v", r.begin, tt.begin, !tt.gone)
		}
	}
	close(end)
	for deadline := time.Now().Add(longestEnd); !r.gone(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("the thread has not ended")
		}
	}
}
