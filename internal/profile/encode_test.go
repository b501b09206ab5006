package profile

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gopherscope/internal/event"
)

// sampled is a profile with what is hard to write.
func sampled(kind Kind) *Profile {
	at := func(name string, line int) event.Location {
		return event.Location{Func: name, File: "/src/a.go", Line: line}
	}
	return &Profile{
		Kind: kind, Exe: "/bin/server", Begin: 5e9, Duration: time.Second,
		Samples: []Sample{
			{Stack: []event.Location{at("main.f;g", 1), at("main.main", 2)}, Count: 1, Delay: 40, State: "waiting", Reason: "chan receive"},
			{Stack: []event.Location{at("main.f;g", 9), at("main.main", 2)}, Count: 2, Delay: 50, State: "waiting", Reason: "chan receive"},
			{Stack: []event.Location{at("main.\x1b[31m\n\u202e\xff", 3), at("main.main", 2)}, Count: 3, Delay: 20, State: "runnable"},
			{Stack: []event.Location{{Func: UnknownStack}}, Count: 4, Delay: 0, State: "running"},
		},
	}
}

// foldedLine is what flamegraph.pl takes for a line: it says so of itself.
var foldedLine = regexp.MustCompile(`^(.*)\s+?(\d+(?:\.\d*)?)$`)

func TestFolded(t *testing.T) {
	for _, tt := range []struct {
		kind Kind
		want string
	}{
		{Block, "main.main;main.f:g 90\nmain.main;main.?[31m??? 20\n"},
		{Wall, "main.main;main.f:g;[waiting: chan receive] 90\nmain.main;main.?[31m???;[runnable] 20\n"},
		{Created, "[unknown stack] 4\nmain.main;main.f:g 3\nmain.main;main.?[31m??? 3\n"},
	} {
		var out bytes.Buffer
		if err := WriteFolded(&out, sampled(tt.kind)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, out.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.kind, diff)
		}
		for line := range strings.Lines(out.String()) {
			if !foldedLine.MatchString(strings.TrimSuffix(line, "\n")) {
				t.Errorf("flamegraph.pl does not read %q", line)
			}
		}
	}
}

// schema is the file format as far as it has sampled profiles: speedscope's
// src/lib/file-format-spec.ts.
type schema struct {
	Schema *string `json:"$schema"`
	Shared *struct {
		Frames *[]struct {
			Name *string `json:"name"`
			File *string `json:"file"` // optional, as are the next two
			Line *int    `json:"line"`
			Col  *int    `json:"col"`
		} `json:"frames"`
	} `json:"shared"`
	Profiles *[]struct {
		Type       *string    `json:"type"`
		Name       *string    `json:"name"`
		Unit       *string    `json:"unit"`
		StartValue *int64     `json:"startValue"`
		EndValue   *int64     `json:"endValue"`
		Samples    *[][]int   `json:"samples"`
		Weights    *[]float64 `json:"weights"`
	} `json:"profiles"`
	Name               *string `json:"name"` // optional, as are the rest
	ActiveProfileIndex *int    `json:"activeProfileIndex"`
	Exporter           *string `json:"exporter"`
}

// TestSpeedscope reads the file by the schema: every field that is not optional is there,
// and no other than those of the schema.
func TestSpeedscope(t *testing.T) {
	for _, empty := range []bool{false, true} {
		p := sampled(Wall)
		if empty {
			p.Samples = nil
		}
		var out bytes.Buffer
		if err := WriteSpeedscope(&out, p); err != nil {
			t.Fatal(err)
		}
		var got schema
		d := json.NewDecoder(&out)
		d.DisallowUnknownFields()
		if err := d.Decode(&got); err != nil {
			t.Fatal(err)
		}
		if *got.Schema != "https://www.speedscope.app/file-format-schema.json" || len(*got.Profiles) != 1 || *got.Name != "server: wall, 1970-01-01T00:00:05Z" {
			t.Errorf("schema %q, %d profiles, %q", *got.Schema, len(*got.Profiles), *got.Name)
		}
		one := (*got.Profiles)[0]
		if *one.Type != "sampled" || *one.Unit != "nanoseconds" || *one.Name != "wall" || *one.StartValue != 0 {
			t.Errorf("%s profile %q in %s from %d", *one.Type, *one.Name, *one.Unit, *one.StartValue)
		}
		if len(*one.Samples) != len(p.Samples) || len(*one.Weights) != len(p.Samples) {
			t.Fatalf("%d samples, %d weights", len(*one.Samples), len(*one.Weights))
		}
		var sum float64
		for i, stack := range *one.Samples {
			sum += (*one.Weights)[i]
			for _, frame := range stack {
				if frame < 0 || frame >= len(*got.Shared.Frames) || *(*got.Shared.Frames)[frame].Name == "" {
					t.Errorf("there is no frame %d", frame)
				}
			}
		}
		if sum != float64(*one.EndValue) || !empty && sum != 110 {
			t.Errorf("the weights are %v, the end is %d", sum, *one.EndValue)
		}
		if empty {
			continue
		}
		first := (*got.Shared.Frames)[(*one.Samples)[0][0]]
		if *first.Name != "main.main" || *first.Line != 2 || *first.File != "/src/a.go" {
			t.Errorf("the outermost frame is %q", *first.Name)
		}
	}
}
