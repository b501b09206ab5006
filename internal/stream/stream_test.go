package stream_test

import (
	"reflect"
	"testing"

	"gopherscope/internal/stream"
)

// add adds n to each number of v that grows in a trace: all but prices and the time.
func add(v reflect.Value, n int64) {
	for i := range v.NumField() {
		f := v.Field(i)
		switch {
		case v.Type().Field(i).Name == "Now":
		case f.Kind() == reflect.Struct:
			add(f, n)
		case f.CanInt():
			f.SetInt(f.Int() + n)
		case f.CanUint():
			f.SetUint(f.Uint() + uint64(n))
		}
	}
}

// TestSince takes away what was there before of every number that there is, or will be.
func TestSince(t *testing.T) {
	var before, want stream.Totals
	add(reflect.ValueOf(&before).Elem(), 5)
	now := before
	now.Now, now.Cost.NsPerUprobe = 9, 2.5
	add(reflect.ValueOf(&now).Elem(), 3)
	add(reflect.ValueOf(&want).Elem(), 3)
	want.Now, want.Cost.NsPerUprobe = 9, 2.5
	if got := now.Since(before); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := want.Since(before); got.Lost != want.Lost || got.Cost.Total != 0 || got.TargetCPU != 0 || got.Paused != 0 {
		t.Errorf("what began anew: %+v", got)
	}
}
