package recording

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// The version of the format. A reader takes every minor version of its major version: what
// a newer minor version adds is in blocks and sections of new kinds, which are skipped, or in
// events of new kinds, which are skipped from format 1.3 on.
const (
	major = 1
	minor = 3
)

// magic begins every recording. The first byte is no text, and the last ones show when
// a transfer has changed the ends of lines.
const magic = "\x89gscope\n"

// headerLen is the length of the file's header: magic, major and minor version (16 bits
// each, little endian like all numbers here), checksum of these.
const headerLen = len(magic) + 8

// The kinds of blocks.
const (
	blockInfo   = 1 // what is known of the trace; the first block
	blockEvents = 2
	blockEnd    = 3 // the index; the last block
	blockNote   = 4 // since format 1.1
)

// Limits of a block, which the writer keeps and the reader insists on. They bound what
// a reader allocates for a hostile file.
const (
	maxEvents = 1 << 16 // events in a block, and ticks
	maxRaw    = 8 << 20 // bytes of a block before compression
	maxStored = maxRaw + maxRaw/64 + 1024
	maxTexts  = 1 << 19 // texts, and places, in a block

	// Stacks of all blocks. An engine tells 65,536 apart; in a snapshot there can be more.
	maxStacks = 1 << 21
	maxFrames = 1 << 25
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// Errors of [NewReader].
var (
	// ErrNotRecording is a file that does not begin as a recording does.
	ErrNotRecording = errors.New("not a recording")
	// ErrEmpty is a recording that was cut before anything of the trace was written.
	ErrEmpty = errors.New("the recording ends before its first block")
)

// VersionError is a recording of a newer format. It says so in full.
type VersionError struct{ Major, Minor uint16 }

// Error implements error.
func (e *VersionError) Error() string {
	return fmt.Sprintf("the recording has format version %d.%d, and this gopherscope reads up to version %d", e.Major, e.Minor, major)
}

// DamageError is a block that is not what was written. Nothing of it was passed on.
type DamageError struct {
	Offset int64  // of the block in the file, bytes
	Events uint64 // of the blocks before it
	Err    error  // what is wrong
}

// Error implements error.
func (e *DamageError) Error() string {
	return fmt.Sprintf("the recording is damaged at byte %d, after %d events: %v", e.Offset, e.Events, e.Err)
}

// Unwrap returns what is wrong.
func (e *DamageError) Unwrap() error { return e.Err }

var (
	errChecksum  = errors.New("wrong checksum")
	errMalformed = errors.New("malformed block")
)

// Looks says whether a file that begins with these bytes is a recording, or can be one
// that was cut.
func Looks(begin []byte) bool {
	n := min(len(begin), len(magic))
	return string(begin[:n]) == magic[:n]
}

func appendHeader(b []byte) []byte {
	begin := len(b)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint16(b, major)
	b = binary.LittleEndian.AppendUint16(b, minor)
	return binary.LittleEndian.AppendUint32(b, checksum(b[begin:]))
}

// checkHeader reads a file's header.
func checkHeader(b []byte) error {
	if string(b[:len(magic)]) != magic {
		return ErrNotRecording
	}
	rest := b[len(magic):]
	if binary.LittleEndian.Uint32(rest[4:]) != checksum(b[:headerLen-4]) {
		return &DamageError{Err: errChecksum}
	}
	v := VersionError{binary.LittleEndian.Uint16(rest), binary.LittleEndian.Uint16(rest[2:])}
	if v.Major != major {
		return &v
	}
	return nil
}

// blockHeader is what precedes a block's payload. It is never compressed, so that a
// reader can go from one to the next.
type blockHeader struct {
	kind   uint8
	stored uint32 // length of the payload in the file
	raw    uint32 // of the payload before compression
	events uint32
	sum    uint32 // checksum of the payload in the file
	first  int64  // the time range of events and ticks: CLOCK_MONOTONIC, ns
	last   int64
}

// blockHeaderLen is the length of a blockHeader.
const blockHeaderLen = 48

const blockMagic = "gsbk"

// put writes the header to the first bytes of b. Bytes 5 to 7 and 40 to 43 are 0 and not
// looked at.
func (h *blockHeader) put(b []byte) {
	b = b[:blockHeaderLen]
	clear(b)
	copy(b, blockMagic)
	b[4] = h.kind
	le := binary.LittleEndian
	le.PutUint32(b[8:], h.stored)
	le.PutUint32(b[12:], h.raw)
	le.PutUint32(b[16:], h.events)
	le.PutUint32(b[20:], h.sum)
	le.PutUint64(b[24:], uint64(h.first))
	le.PutUint64(b[32:], uint64(h.last))
	le.PutUint32(b[44:], checksum(b[:44]))
}

// parse reads a header. The lengths of a block of unknown kind are not limited.
func (h *blockHeader) parse(b []byte) error {
	le := binary.LittleEndian
	if string(b[:4]) != blockMagic || le.Uint32(b[44:]) != checksum(b[:44]) {
		return errChecksum
	}
	*h = blockHeader{
		kind: b[4], stored: le.Uint32(b[8:]), raw: le.Uint32(b[12:]), events: le.Uint32(b[16:]), sum: le.Uint32(b[20:]),
		first: int64(le.Uint64(b[24:])), last: int64(le.Uint64(b[32:])),
	}
	if h.known() && (h.stored > maxStored || h.raw > maxRaw || h.events > maxEvents) {
		return errMalformed
	}
	return nil
}

func (h *blockHeader) known() bool { return h.kind >= blockInfo && h.kind <= blockNote }

// trailerLen is the length of what follows the last block: where that is (64 bits), a
// magic number, and the checksum of both.
const trailerLen = 16

const trailerMagic = "gsnx"

func appendTrailer(b []byte, end int64) []byte {
	begin := len(b)
	b = binary.LittleEndian.AppendUint64(b, uint64(end))
	b = append(b, trailerMagic...)
	return binary.LittleEndian.AppendUint32(b, checksum(b[begin:]))
}

// parseTrailer returns where the last block is.
func parseTrailer(b []byte) (int64, bool) {
	le := binary.LittleEndian
	if string(b[8:12]) != trailerMagic || le.Uint32(b[12:]) != checksum(b[:12]) {
		return 0, false
	}
	return int64(le.Uint64(b)), true
}

// A payload is a sequence of sections: kind, length, content.

func appendSection(b []byte, kind uint64, content []byte) []byte {
	b = binary.AppendUvarint(b, kind)
	b = binary.AppendUvarint(b, uint64(len(content)))
	return append(b, content...)
}

// sections calls do for each section of a payload.
func sections(payload []byte, do func(kind uint64, content []byte)) error {
	c := cursor{b: payload}
	for len(c.b) > 0 {
		kind := c.uvarint()
		content := c.text()
		if c.bad {
			return errMalformed
		}
		do(kind, content)
	}
	return nil
}

// cursor reads numbers from bytes. Once something is missing it is bad, and everything that is read is 0.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) fail() {
	c.b, c.bad = nil, true
}

func (c *cursor) uvarint() uint64 {
	if len(c.b) > 0 && c.b[0] < 0x80 {
		v := c.b[0]
		c.b = c.b[1:]
		return uint64(v)
	}
	v, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.fail()
		return 0
	}
	c.b = c.b[n:]
	return v
}

// varint reads a signed number in zigzag form.
func (c *cursor) varint() int64 {
	u := c.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

func (c *cursor) uint32() uint32 {
	v := c.uvarint()
	if v > 1<<32-1 {
		c.fail()
		return 0
	}
	return uint32(v)
}

// index reads a number below n.
func (c *cursor) index(n int) int {
	v := c.uvarint()
	if v >= uint64(n) {
		c.fail()
		return 0
	}
	return int(v)
}

func (c *cursor) byte() byte {
	if len(c.b) == 0 {
		c.fail()
		return 0
	}
	v := c.b[0]
	c.b = c.b[1:]
	return v
}

// fixed64 reads 8 bytes.
func (c *cursor) fixed64() uint64 {
	if len(c.b) < 8 {
		c.fail()
		return 0
	}
	v := binary.LittleEndian.Uint64(c.b)
	c.b = c.b[8:]
	return v
}

// text reads a length and so many bytes.
func (c *cursor) text() []byte {
	n := c.uvarint()
	if n > uint64(len(c.b)) {
		c.fail()
		return nil
	}
	s := c.b[:n:n]
	c.b = c.b[n:]
	return s
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}
