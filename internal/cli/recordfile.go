package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
)

// recordFile is what a recording is written to: a file that only its owner can read, or
// standard output.
type recordFile struct {
	path string
	out  io.Writer
	file *os.File // nil if it is standard output
	made bool     // there was no such file before
}

// openRecordFile opens the output, and leaves what is in it as it is until begin. A file
// with anything else than a recording is refused.
func openRecordFile(t *terminal, path string) (*recordFile, error) {
	if path == stdinName {
		if columns(t.Out) > 0 {
			return nil, withHint(usagef("a recording is no text for a terminal"), "name a file with --output, or send standard output elsewhere")
		}
		return &recordFile{path: path, out: t.Out}, nil
	}
	kind, err := fileKind(path)
	switch {
	case err != nil:
		return nil, fmt.Errorf("open recording: %w", err)
	case kind == otherFile:
		return nil, withHint(fmt.Errorf("%s is there already and is not a recording", path), "choose another --output")
	}
	r := &recordFile{path: path, made: kind == noFile}
	if r.file, err = createFile(path); err != nil {
		return nil, createError("create recording", err)
	}
	r.out = r.file
	return r, nil
}

// begin empties the file.
func (r *recordFile) begin() error {
	if r.file == nil {
		return nil
	}
	return emptyFile(r.file)
}

// abandon closes the output when there is nothing to record, and removes the file if it
// was made for that.
func (r *recordFile) abandon() error {
	if r.file == nil {
		return nil
	}
	err := r.file.Close()
	if r.made {
		err = errors.Join(err, os.Remove(r.path))
	}
	return err
}

// Write implements io.Writer.
func (r *recordFile) Write(b []byte) (int, error) { return r.out.Write(b) }

// Close closes the file, once. Standard output stays open.
func (r *recordFile) Close() error {
	if r.file == nil {
		return nil
	}
	file := r.file
	r.file = nil
	return file.Close()
}

// gone says whether the output is a pipe that nobody reads any more.
func (r *recordFile) gone() bool { return readerGone(r.out) }

// rotate makes room for a new file under the same name, and opens it. There are keep
// files then: the oldest one is removed. The present one must have been closed.
func (r *recordFile) rotate(keep int) error {
	name := func(i int) string {
		if i == 0 {
			return r.path
		}
		return r.path + "." + strconv.Itoa(i)
	}
	for i := keep - 1; i > 0; i-- {
		if err := os.Rename(name(i-1), name(i)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	file, err := os.OpenFile(r.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	r.file, r.out = file, file
	return nil
}
