package inline

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
)

// mapName is the name of the rings' memfd, as /proc/PID/maps shows it.
const mapName = "gopherscope"

// lengthBytes are those before the manifest's text.
const lengthBytes = 8

// manifestVersion changes when the meaning of a manifest does.
const manifestVersion = 1

// magic is what the rings' first page begins with.
var magic = [16]byte{'g', 'o', 'p', 'h', 'e', 'r', 's', 'c', 'o', 'p', 'e', 0, 0, 0, 0, manifestVersion}

// manifest says what was changed in a process and how to undo it. It lies in the
// process itself, in the pages before the code, so that the next gopherscope can
// clean up after one that was killed. It is the process's memory: what it says is
// checked against the binary and the mappings before anything is done.
type manifest struct {
	Code     uint64  `json:"code"`  // address of the code's mapping, codeBytes long
	Rings    uint64  `json:"rings"` // address of the rings' mapping
	RingsLen uint64  `json:"rings_len"`
	Hooks    []entry `json:"hooks"`
	Spans    []place `json:"spans"`
}

// entry is one change of the text.
type entry struct {
	At    uint64 `json:"at"`
	Orig  []byte `json:"orig"`
	Patch []byte `json:"patch"`
}

// place is a span of the code: lo, hi, where to go on, and 1 if AX is in R13 after
// lo.
type place [4]uint64

var errManifest = errors.New("what a gopherscope before left there is not understood")

// manifestOf describes a program.
func manifestOf(p *program, rings, ringsLen uint64) *manifest {
	m := &manifest{Code: p.base, Rings: rings, RingsLen: ringsLen}
	for _, h := range p.hooks {
		m.Hooks = append(m.Hooks, entry{h.at, h.orig, h.patch})
	}
	for _, s := range p.spans {
		saved := uint64(0)
		if s.saved {
			saved = 1
		}
		m.Spans = append(m.Spans, place{s.lo, s.hi, s.to, saved})
	}
	return m
}

// spanAt is the span that a program counter lies in.
func (m *manifest) spanAt(pc uint64) (place, bool) {
	for _, s := range m.Spans {
		if pc >= s[0] && pc < s[1] {
			return s, true
		}
	}
	return place{}, false
}

// encode makes the bytes for the manifest's pages: a length and JSON.
func (m *manifest) encode() ([]byte, error) {
	text, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("internal error: manifest: %w", err)
	}
	if len(text)+lengthBytes > manifestPages*pageSize {
		return nil, fmt.Errorf("internal error: manifest of %d bytes", len(text))
	}
	return append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...), nil
}

// decodeManifest reads what encode made, out of the whole pages. Without a length nothing
// has been changed yet.
func decodeManifest(b []byte) (*manifest, error) {
	if len(b) < lengthBytes {
		return nil, errManifest
	}
	n := binary.LittleEndian.Uint64(b)
	if n == 0 {
		return &manifest{}, nil
	}
	if n > uint64(len(b)-lengthBytes) {
		return nil, errManifest
	}
	m := &manifest{}
	if err := json.Unmarshal(b[lengthBytes:lengthBytes+n], m); err != nil {
		return nil, fmt.Errorf("%w: %w", errManifest, err)
	}
	return m, nil
}

// header is the beginning of the rings' first page: magic and the code's address.
func header(code uint64) []byte {
	return binary.LittleEndian.AppendUint64(magic[:len(magic):len(magic)], code)
}

// parseHeader returns the code's address.
func parseHeader(b []byte) (uint64, error) {
	if len(b) < len(magic)+8 || [16]byte(b) != magic {
		return 0, errManifest
	}
	return binary.LittleEndian.Uint64(b[len(magic):]), nil
}
