package waiton

import (
	"encoding/binary"
	"errors"

	"gopherscope/internal/process"
	"gopherscope/internal/target"
)

// reader reads memory in batches.
type reader struct {
	mem   process.Memory
	reads []process.MemRead
	bad   []bool
	buf   []byte
}

// begin starts a batch of pieces of total bytes. The memory of the batch before
// is used again.
func (r *reader) begin(pieces, total int) {
	r.reads, r.bad = r.reads[:0], r.bad[:0]
	if cap(r.reads) < pieces {
		r.reads = make([]process.MemRead, 0, pieces)
	}
	if cap(r.buf) < total {
		r.buf = make([]byte, 0, total)
	}
	r.buf = r.buf[:0]
}

// want adds a piece to the batch and returns its number. More than begin was told
// of get memory of their own.
func (r *reader) want(addr uint64, n int) int {
	var b []byte
	if at := len(r.buf); at+n <= cap(r.buf) {
		r.buf = r.buf[:at+n]
		b = r.buf[at : at+n : at+n]
	} else {
		b = make([]byte, n)
	}
	r.reads = append(r.reads, process.MemRead{Addr: addr, Buf: b})
	r.bad = append(r.bad, false)
	return len(r.reads) - 1
}

// run reads the batch. Only an error that ends all reading is returned; a piece
// that cannot be read is marked.
func (r *reader) run() error {
	for done := 0; done < len(r.reads); {
		n, err := r.mem.ReadMany(r.reads[done:])
		if ends(err) {
			return err
		}
		if done += n; err != nil && done < len(r.reads) {
			r.bad[done] = true
			done++
		}
	}
	return nil
}

// piece is what was read of piece number i, nil if it cannot be read. It is valid
// until the next begin.
func (r *reader) piece(i int) []byte {
	if r.bad[i] {
		return nil
	}
	return r.reads[i].Buf
}

// one reads a single piece; ok is false if it cannot be read.
func (r *reader) one(addr uint64, b []byte) (ok bool, err error) {
	err = r.mem.ReadMem(addr, b)
	if ends(err) {
		return false, err
	}
	return err == nil, nil
}

// ends tells whether an error of reading memory ends it all: the process is gone,
// or must not be read any more.
func ends(err error) bool {
	return errors.Is(err, process.ErrExited) || errors.Is(err, process.ErrExec) || errors.Is(err, process.ErrPermission)
}

// word is the 8-byte field at off; 0 for a field that this Go version does not
// have.
func word(b []byte, off uint32) uint64 {
	if off == target.NoField {
		return 0
	}
	return binary.LittleEndian.Uint64(b[off:])
}

func word32(b []byte, off uint32) uint32 { return binary.LittleEndian.Uint32(b[off:]) }
