package dump

import (
	"fmt"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gopherscope/internal/goruntime"
)

// sample is a Dump with a little of everything.
func sample() *Dump {
	return &Dump{
		Version: goruntime.Version{Text: "go1.27", Minor: 27},
		Mono:    1e12,
		Reasons: []string{"", "chan receive", "select"},
		Stacks: []Stack{
			{},
			{Frames: []Frame{{PC: 1, Func: "runtime.gopark"}, {PC: 10, Func: "main.work"}, {PC: 99, Func: "runtime.goexit"}}},
			{Frames: []Frame{{PC: 2, Func: "runtime.selectgo"}, {PC: 10, Func: "main.work"}, {PC: 99, Func: "runtime.goexit"}}},
			{Frames: []Frame{{PC: 3, Func: "runtime.gopark"}, {PC: 4, Func: "runtime.bgsweep"}}},
		},
		Sites: []Site{{}, {Func: "main.inner", Outer: "main.outer"}, {Func: "runtime.gcenable", Outer: "runtime.gcenable"}},
		Goroutines: []Goroutine{
			{ID: 1, Status: goruntime.Running},
			{ID: 2, Status: goruntime.Waiting, Stack: 3, Created: 2, Flags: System},
			{ID: 3, Status: goruntime.Waiting, Reason: 1, Stack: 1, Created: 1, Parent: 1, Source: SourceMemory, WaitSince: 9e11},
			{ID: 4, Status: goruntime.Waiting, Reason: 2, Stack: 2, Created: 1, Parent: 1, Source: SourceMemory},
			{ID: 5, Status: goruntime.Syscall, Reason: 1, Stack: 1, Created: 1, Parent: 3, Source: SourceMemory},
			{ID: 6, Status: goruntime.Runnable, Created: 1, Source: SourceTorn},
			{ID: 7, Status: goruntime.Waiting, Reason: 2, Stack: 2, Created: 1, Parent: 1, Source: SourceMemory, WaitSince: 8e11},
		},
	}
}

func ids(d *Dump, f *Filter) []uint64 {
	var out []uint64
	for g := range f.Select(d) {
		out = append(out, g.ID)
	}
	return out
}

func TestSelect(t *testing.T) {
	re := regexp.MustCompile
	for _, tt := range []struct {
		name string
		f    Filter
		want []uint64
	}{
		{"all of the program's", Filter{}, []uint64{1, 3, 4, 5, 6, 7}},
		{"the runtime's too", Filter{All: true}, []uint64{1, 2, 3, 4, 5, 6, 7}},
		{"numbers", Filter{GoIDs: []uint64{2, 7, 99}}, []uint64{2, 7}},
		{"states", Filter{States: []goruntime.Status{goruntime.Syscall, goruntime.Running}}, []uint64{1, 5}},
		{"a reason that a goroutine had once", Filter{Reasons: []string{"chan receive"}}, []uint64{3}},
		{"no reason", Filter{Reasons: []string{""}}, nil},
		{"the inlined creator", Filter{CreatedBy: re(`main\.inner`)}, []uint64{3, 4, 5, 6, 7}},
		{"the compiled creator", Filter{CreatedBy: re(`outer$`)}, []uint64{3, 4, 5, 6, 7}},
		{"a function", Filter{Stack: re(`^main\.`)}, []uint64{3, 4, 5, 7}},
		{"a hidden function", Filter{Stack: re(`selectgo`)}, nil},
		{"a hidden function with all", Filter{Stack: re(`selectgo`), All: true}, []uint64{4, 7}},
		{"together", Filter{Stack: re(`work`), Reasons: []string{"select"}, GoIDs: []uint64{3, 7}}, []uint64{7}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := ids(sample(), &tt.f); !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
	for g := range (&Filter{}).Select(sample()) { // a reader that has had enough
		if g.ID != 1 {
			t.Fatalf("goroutine %d after the end", g.ID)
		}
		break
	}
}

func TestGroups(t *testing.T) {
	d := sample()
	type row struct {
		Count  int
		IDs    []uint64
		Parent uint64
		States string
		Wait   time.Duration
	}
	rows := func(all bool) (out []row) {
		for _, gr := range d.Groups((&Filter{}).Select(d), all) {
			r := row{gr.Count, gr.IDs, gr.Parent, "", gr.Wait}
			for _, s := range gr.States {
				r.States += fmt.Sprintf("%d %s %s;", s.Count, s.Status.Name(), s.Reason)
			}
			if gr.First.ID != gr.IDs[0] {
				t.Errorf("first %d of %v", gr.First.ID, gr.IDs)
			}
			out = append(out, r)
		}
		return out
	}
	want := []row{
		{4, []uint64{3, 4, 5, 7}, 0, "2 waiting select;1 waiting chan receive;1 syscall ;", 200 * time.Second},
		{1, []uint64{1}, 0, "1 running ;", 0},
		{1, []uint64{6}, 0, "1 runnable ;", 0},
	}
	if diff := cmp.Diff(want, rows(false)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	want = []row{
		{2, []uint64{3, 5}, 0, "1 waiting chan receive;1 syscall ;", 100 * time.Second},
		{2, []uint64{4, 7}, 1, "2 waiting select;", 200 * time.Second},
		{1, []uint64{1}, 0, "1 running ;", 0},
		{1, []uint64{6}, 0, "1 runnable ;", 0},
	}
	if diff := cmp.Diff(want, rows(true)); diff != "" {
		t.Errorf("with all frames (-want +got):\n%s", diff)
	}
}

func TestGroupIDs(t *testing.T) {
	d := &Dump{Stacks: make([]Stack, 1), Sites: make([]Site, 1), Goroutines: make([]Goroutine, 3*GroupIDs)}
	for i := range d.Goroutines {
		d.Goroutines[i].ID = uint64(i + 1)
	}
	groups := d.Groups((&Filter{}).Select(d), false)
	if len(groups) != 1 || groups[0].Count != 3*GroupIDs || len(groups[0].IDs) != GroupIDs || groups[0].IDs[GroupIDs-1] != GroupIDs {
		t.Errorf("got %+v", groups)
	}
}
