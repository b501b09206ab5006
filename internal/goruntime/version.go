package goruntime

import (
	"fmt"
	"strconv"
	"strings"
)

// The window of Go releases whose runtime is known: the minors of go1.N.
// A newer one is allowed when every validation passes, with a note.
const (
	MinMinor = 18
	MaxMinor = 27
)

// Version is a Go release as far as the runtime's layout depends on it.
type Version struct {
	Text  string // as the binary has it: "go1.26.8", "devel go1.28-abc…"
	Minor int    // N of go1.N
}

// ParseVersion reads a version as runtime.Version prints it. It accepts
// releases ("go1.26.8", "go1.26rc1"), vendor suffixes ("go1.24.2-X:jsonv2") and
// development versions ("devel go1.28-4cf6…").
func ParseVersion(text string) (Version, error) {
	s := strings.TrimPrefix(text, "devel ")
	rest, ok := strings.CutPrefix(s, "go1.")
	if !ok {
		return Version{}, fmt.Errorf("unknown Go version %q", text)
	}
	end := 0
	for end < len(rest) && rest[end] >= '0' && rest[end] <= '9' {
		end++
	}
	n, err := strconv.Atoi(rest[:end])
	if err != nil {
		return Version{}, fmt.Errorf("unknown Go version %q", text)
	}
	return Version{Text: text, Minor: n}, nil
}

// String is the version's text.
func (v Version) String() string { return v.Text }

// TooOld says whether the runtime is older than the known window; such a
// process is refused.
func (v Version) TooOld() bool { return v.Minor < MinMinor }

// TooNew says whether the runtime is newer than the known window; such a
// process is allowed when every validation passes.
func (v Version) TooNew() bool { return v.Minor > MaxMinor }
