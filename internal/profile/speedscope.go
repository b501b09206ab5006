package profile

import (
	"encoding/json"
	"fmt"
	"io"
	"path"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"gopherscope/internal/event"
)

// speedscopeSchema is where the format is defined, and how a file says that it has it.
const speedscopeSchema = "https://www.speedscope.app/file-format-schema.json"

// The file format of speedscope, as far as it is used here (speedscope's
// src/lib/file-format-spec.ts: File, Frame, SampledProfile).
type (
	speedscopeFile struct {
		Schema   string              `json:"$schema"`
		Name     string              `json:"name"`
		Exporter string              `json:"exporter"`
		Shared   speedscopeShared    `json:"shared"`
		Profiles []speedscopeProfile `json:"profiles"`
	}
	speedscopeShared struct {
		Frames []speedscopeFrame `json:"frames"`
	}
	speedscopeFrame struct {
		Name string `json:"name"`
		File string `json:"file,omitempty"`
		Line int    `json:"line,omitempty"`
	}
	speedscopeProfile struct {
		Type       string  `json:"type"` // "sampled"
		Name       string  `json:"name"`
		Unit       string  `json:"unit"`
		StartValue int64   `json:"startValue"`
		EndValue   int64   `json:"endValue"`
		Samples    [][]int `json:"samples"` // frames by index, outermost first
		Weights    []int64 `json:"weights"`
	}
)

// WriteSpeedscope writes the profile as a file for https://www.speedscope.app: one sampled
// profile whose weights are the values of the samples. A file has no labels; in a Wall
// profile the state is the innermost frame, as in [WriteFolded].
func WriteSpeedscope(w io.Writer, p *Profile) error {
	f := speedscopeFile{
		Schema: speedscopeSchema, Exporter: "gopherscope",
		Name:   p.title(),
		Shared: speedscopeShared{Frames: []speedscopeFrame{}},
	}
	one := speedscopeProfile{
		Type: "sampled", Name: p.Kind.String(), Unit: "nanoseconds", Samples: [][]int{}, Weights: []int64{},
	}
	if p.Kind == Created {
		one.Unit = "none"
	}
	frames := map[event.Location]int{}
	for i := range p.Samples {
		s := &p.Samples[i]
		stack := p.stackWithState(s)
		indices := make([]int, len(stack))
		for j, at := range stack {
			n, ok := frames[at]
			if !ok {
				n = len(frames)
				frames[at] = n
				f.Shared.Frames = append(f.Shared.Frames, speedscopeFrame{at.Func, at.File, at.Line})
			}
			indices[len(stack)-1-j] = n
		}
		one.Samples = append(one.Samples, indices)
		one.Weights = append(one.Weights, p.Value(s))
		one.EndValue += p.Value(s)
	}
	f.Profiles = []speedscopeProfile{one}
	text, err := json.Marshal(f)
	if err != nil {
		return err
	}
	_, err = w.Write(append(escapeJSON(text), '\n'))
	return err
}

// escapeJSON escapes what json.Marshal leaves as it is, though a terminal acts on it: DEL,
// the C1 controls, what changes the direction of text. They can only be within strings.
func escapeJSON(text []byte) []byte {
	b := make([]byte, 0, len(text))
	for _, r := range string(text) {
		if unicode.IsPrint(r) {
			b = utf8.AppendRune(b, r)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			b = fmt.Appendf(b, `\u%04x`, unit)
		}
	}
	return b
}

// title is what a viewer shows above the profile.
func (p *Profile) title() string {
	title := p.Kind.String()
	if p.Exe != "" {
		title = path.Base(p.Exe) + ": " + title
	}
	return title + ", " + time.Unix(0, p.Begin).UTC().Format(time.RFC3339)
}
