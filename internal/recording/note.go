package recording

import "encoding/binary"

// Note is a remark of the recorder about a moment of the trace, for people: why it was
// recorded.
type Note struct {
	Time   int64  // CLOCK_MONOTONIC, ns
	Cause  string // what happened: "runnable > 200", "SIGUSR1"
	Detail string // more of it, such as "runnable = 312"; "" if there is none
}

// What a reader keeps of notes at most: how many, and the bytes of a text. A file with more is
// made to take memory.
const (
	maxNotes    = 1000
	maxNoteText = 4096
)

// The sections of a block with a note (format 1.1). A reader of version 1.0 skips the
// block.
const (
	noteTime   = 1
	noteCause  = 2
	noteDetail = 3
)

// note writes a note as a block of its own.
func (w *Writer) note(n *Note) error {
	if w.err != nil {
		return w.err
	}
	b := appendSection(w.payload[:0], noteTime, binary.AppendVarint(nil, n.Time))
	b = appendSection(b, noteCause, []byte(n.Cause))
	w.payload = appendSection(b, noteDetail, []byte(n.Detail))
	w.buf = w.buf[:0]
	return w.block(blockHeader{kind: blockNote, first: n.Time, last: n.Time})
}

func parseNote(payload []byte) (Note, error) {
	var n Note
	bad := false
	err := sections(payload, func(kind uint64, content []byte) {
		switch kind {
		case noteTime:
			c := cursor{b: content}
			n.Time = c.varint()
			bad = bad || c.bad
		case noteCause:
			n.Cause = string(content[:min(len(content), maxNoteText)])
		case noteDetail:
			n.Detail = string(content[:min(len(content), maxNoteText)])
		}
	})
	if err != nil || bad {
		return Note{}, errMalformed
	}
	return n, nil
}

// Notes are the recorder's remarks in what Run has read so far, each once, in the order of
// the file. They must not be changed.
func (r *Reader) Notes() []Note { return r.notes }

// remark takes a note.
func (r *Reader) remark(payload []byte) error {
	n, err := parseNote(payload)
	if err != nil {
		return r.damaged(err)
	}
	if len(r.notes) < maxNotes && r.at >= r.noted {
		r.notes, r.noted = append(r.notes, n), r.at+1
	}
	return nil
}
