package elapsed

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestText(t *testing.T) {
	for _, tt := range []struct {
		d    time.Duration
		want string
	}{
		{-5, "-5ns"}, {0, "0ns"}, {812, "812ns"}, {1000, "1.00µs"}, {9_995, "10.0µs"}, {41_234, "41.2µs"}, {999_949, "999.9µs"},
		{999_999, "1.00ms"}, {3410 * time.Millisecond, "3.41s"}, {59_949 * time.Millisecond, "59.9s"}, {59_950 * time.Millisecond, "1m00s"},
		{time.Minute, "1m00s"}, {66 * time.Second, "1m06s"}, {326_400 * time.Millisecond, "5m26s"}, {time.Hour - 1, "59m59s"},
		{90 * time.Minute, "1h30m"}, {125*time.Minute + 59*time.Second, "2h05m"}, {100*time.Hour - 1, "99h59m"},
		{100 * time.Hour, "4d"}, {1<<63 - 1, "106751d"},
	} {
		if got := Text(tt.d); got != tt.want {
			t.Errorf("%d ns: %s, want %s", tt.d, got, tt.want)
		}
	}
}

// TestClose holds many a time to what its text says: no more of it is lost than the last
// digit, and the order of two times is that of their texts.
func TestClose(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 26))
	last, said := time.Duration(0), time.Duration(0)
	for d := time.Duration(1); d > 0 && d < 100*time.Hour; d += d/1000*time.Duration(rng.IntN(8)) + time.Duration(1+rng.IntN(20)) {
		text := Text(d)
		got, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("%d ns: %v", d, err)
		}
		off := time.Duration(max(1, d/190)) // 0.005 of 1.00 at the most, and a minute of 60 or more
		if d >= time.Minute {
			off = max(time.Second, d/60)
		}
		if got < d-off || got > d+off {
			t.Errorf("%d ns: %s", d, text)
		}
		if got < said {
			t.Errorf("%d ns are more than %d, but %s is less than %s", d, last, text, said)
		}
		if n := utf8.RuneCountInString(text); n > 7 {
			t.Errorf("%d ns: %q has %d characters", d, text, n)
		}
		last, said = d, got
	}
}

// Append keeps what is there.
func TestAppend(t *testing.T) {
	b := Append([]byte("in "), 5*time.Second)
	if got := string(b); got != "in 5.00s" {
		t.Error(strconv.Quote(got))
	}
	if n := testing.AllocsPerRun(100, func() { b = Append(b[:0], 3*time.Hour) }); n != 0 || !strings.HasPrefix(string(b), "3h") {
		t.Errorf("%v allocations for %s", n, b)
	}
}
