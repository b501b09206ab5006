package event_test

import (
	"reflect"
	"strings"
	"testing"

	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
)

// full has another value than 0 in every field.
var full = event.Event{
	Kind: event.Snapshot, Time: 1, PID: 2, TID: 3, GoID: 4, M: -5, P: event.NoP,
	From: goruntime.Running, To: goruntime.Waiting, Via: event.ViaPark, Fake: true,
	Reason: "chan receive", Waker: 6, Since: -7, Stack: 8,
	Birth: &event.Birth{
		Parent:    9,
		CreatedBy: event.Location{Func: "main.(*T).run[...]", File: "/src/a b,c.go", Line: 10},
		Start:     event.Location{Func: "\x1b[2J\xff\"\\", File: "\u00e9\n", Line: -1},
	},
	Labels: &event.LabelSet{Labels: []event.Label{{Key: "path", Value: "/a,b"}, {Key: "\x1b]0;\a", Value: ""}}},
}

// TestTextForm holds the form to what it looks like, and to every field of Event.
func TestTextForm(t *testing.T) {
	v := reflect.ValueOf(full)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Errorf("the test does not set %s", v.Type().Field(i).Name)
		}
	}
	for line, e := range map[string]event.Event{
		"transition": {},
		`snapshot mono_ns=1 pid=2 tid=3 goid=4 m=-5 p=-1 from=running to=waiting via=park reason="chan receive" fake_wait=true waker=6 ` +
			`since_ns=-7 stack=8 parent=9 created_by=main.(*T).run[...],"/src/a b,c.go",10 start="\x1b[2J\xff\"\\","\u00e9\n",-1 labels=2,path,"/a,b","\x1b]0;\a",""`: full,
		"labels mono_ns=5 pid=6 goid=7 labels=0":                                   {Kind: event.Labels, Time: 5, PID: 6, GoID: 7, Labels: &event.LabelSet{}},
		"labels goid=7 labels=1,user,7":                                            {Kind: event.Labels, GoID: 7, Labels: &event.LabelSet{Labels: []event.Label{{Key: "user", Value: "7"}}}},
		"exec mono_ns=-9223372036854775808 pid=4294967295":                         {Kind: event.Exec, Time: -1 << 63, PID: 1<<32 - 1},
		"exit goid=18446744073709551615":                                           {Kind: event.Exit, GoID: 1<<64 - 1},
		"gap mono_ns=9223372036854775807":                                          {Kind: event.Gap, Time: 1<<63 - 1},
		"200 p=2147483647 from=5 to=255 via=99":                                    {Kind: 200, P: 1<<31 - 1, From: 5, To: 255, Via: 99},
		"transition from=dead to=runnable via=create parent=0":                     {From: goruntime.Dead, To: goruntime.Runnable, Via: event.ViaCreate, Birth: &event.Birth{}},
		`transition parent=0 start="","",1`:                                        {Birth: &event.Birth{Start: event.Location{Line: 1}}},
		"transition to=waiting reason=sleep parent=1 created_by=main.main,m.go,12": {To: goruntime.Waiting, Reason: "sleep", Birth: &event.Birth{Parent: 1, CreatedBy: event.Location{Func: "main.main", File: "m.go", Line: 12}}},
	} {
		if got := string(event.AppendText(nil, &e)); got != line {
			t.Errorf("got  %s\nwant %s", got, line)
		}
		if got, err := event.ParseText(line); err != nil || !reflect.DeepEqual(*got, e) {
			t.Errorf("%s\nis %+v, %v\nwant %+v", line, got, err, e)
		}
	}
}

// TestTextNames wants each kind and path back by its name.
func TestTextNames(t *testing.T) {
	for i := range 256 {
		e := event.Event{Kind: event.Kind(i), Via: event.Via(255 - i), From: goruntime.Status(i)}
		line := string(event.AppendText(nil, &e))
		if got, err := event.ParseText(line); err != nil || *got != e {
			t.Errorf("%s: %+v, %v, want %+v", line, got, err, e)
		}
	}
}

func TestTextRefuses(t *testing.T) {
	for line, want := range map[string]string{
		"":                                 "kind",
		"change goid=1":                    "kind",
		"256":                              "kind",
		"exit goid":                        "no key=value",
		"exit ":                            "no key=value",
		"exit  goid=1":                     "unknown key",
		"exit color=1":                     "unknown key",
		"exit goid=1 goid=2":               "given twice",
		"exit goid=-1":                     "goid",
		"exit pid=4294967296":              "pid",
		"exit p=2147483648":                "p:",
		"exit to=asleep":                   "unknown state",
		"exit via=256":                     "via",
		"exit fake_wait=maybe":             "fake_wait",
		"exit reason=":                     "value is missing",
		"labels labels=":                   "labels",
		"labels labels=1":                  "value is missing",
		"labels labels=0,a,b":              "value is missing",
		"labels labels=0,":                 "value is missing",
		"labels labels=1,a":                "value is missing",
		"labels labels=1,a,b,c":            "value is missing",
		"labels labels=2,a,b":              "value is missing",
		"labels labels=65536,a,b":          "labels",
		`exit reason="a`:                   "reason",
		`exit reason="a"b goid=1`:          "something follows",
		"exit created_by=main.main goid=1": "created_by",
		"exit created_by=main.main,m.go":   "created_by",
		"exit created_by=main.main,m.go,x goid=1": "created_by",
		"exit goid=1 ": "no key=value",
	} {
		if e, err := event.ParseText(line); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v; want an error with %q", line, e, err, want)
		}
	}
}

// FuzzParseText wants what is read to be the same after it was written and read again,
// and what is written to be harmless on a terminal.
func FuzzParseText(f *testing.F) {
	f.Add(string(event.AppendText(nil, &full)))
	f.Add("transition mono_ns=5 pid=7 goid=18 p=1 from=running to=waiting via=park reason=\"chan receive\"")
	f.Add("snapshot parent=0 start=\"\",a,-1 created_by=\"x\\\"\",\"\",0")
	f.Add("7 from=5 to=255 via=99")
	f.Fuzz(func(t *testing.T, line string) {
		e, err := event.ParseText(line)
		if err != nil {
			return
		}
		text := string(event.AppendText(nil, e))
		for i := range len(text) {
			if text[i] < ' ' || text[i] > '~' {
				t.Fatalf("%q has a byte that is not printable", text)
			}
		}
		if back, err := event.ParseText(text); err != nil || !reflect.DeepEqual(back, e) {
			t.Fatalf("%s: %+v, %v, want %+v", text, back, err, e)
		}
	})
}
