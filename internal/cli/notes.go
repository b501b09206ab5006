package cli

import (
	"gopherscope/internal/recording"
	"gopherscope/internal/stream"
)

// noteReader has the notes of a trace as they come: a recording may have some, a process has none.
type noteReader struct {
	src  interface{ Notes() []recording.Note } // nil of a process
	seen int
}

func newNoteReader(src stream.Source) noteReader {
	notes, _ := src.(interface{ Notes() []recording.Note })
	return noteReader{src: notes}
}

// each passes on the notes that came since the last call.
func (r *noteReader) each(pass func(*recording.Note) error) error {
	if r.src == nil {
		return nil
	}
	notes := r.src.Notes()
	for r.seen < len(notes) {
		n := notes[r.seen]
		r.seen++
		if err := pass(&n); err != nil {
			return err
		}
	}
	return nil
}
