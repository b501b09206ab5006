package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// outputError turns a write error into what the command returns: nothing when
// the reader of a pipe has had enough.
func outputError(err error, path string) error {
	switch {
	case errors.Is(err, unix.EPIPE):
		return nil
	case errors.Is(err, unix.ENOSPC):
		return withHint(fmt.Errorf("write output: %w", err), "what was written before is whole lines; free space or choose another --output")
	case err != nil && path != "":
		return fmt.Errorf("write output: %w", err)
	}
	return err
}

// wholeOutputError is outputError for an output that is not lines.
func wholeOutputError(err error, path string) error {
	if errors.Is(err, unix.ENOSPC) {
		return withHint(fmt.Errorf("write output: %w", err), "what was written before is not whole; free space or choose another --output")
	}
	return outputError(err, path)
}

// openOutput creates the output file, readable by its owner only, or returns
// standard output when path is empty.
func openOutput(path string, stdout io.Writer) (io.WriteCloser, error) {
	if path == "" {
		return keepOpen{stdout}, nil
	}
	f, err := createFile(path)
	if err != nil {
		return nil, createError("create output", err)
	}
	if err := emptyFile(f); err != nil {
		return nil, errors.Join(fmt.Errorf("create output: %w", err), f.Close())
	}
	return f, nil
}

// checkOutput finds out, before anything else is done, whether openOutput will be able to
// create the file, and refuses the one that is read. What is there stays as it is until
// openOutput, so that a command that does not even begin has emptied nothing.
func checkOutput(path, input string) error {
	if path == "" {
		return nil
	}
	if sameFile(path, input) {
		return withHint(usagef("--output %s is the file that is read", path), "choose another name")
	}
	st, err := os.Lstat(path)
	made := errors.Is(err, fs.ErrNotExist)
	if err == nil && !st.Mode().IsRegular() {
		return nil // to open and close a pipe would be the end for who reads it
	}
	f, err := createFile(path)
	if err != nil {
		return createError("create output", err)
	}
	if err = f.Close(); made {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// sameFile says whether both are paths of one file.
func sameFile(a, b string) bool {
	if a == "" || b == "" {
		return false
	}
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other)
}

// keepOpen is a writer that is not ours to close.
type keepOpen struct{ io.Writer }

func (keepOpen) Close() error { return nil }

// readerGone says whether out is a pipe that nobody reads any more, which a command
// with nothing to write would not notice.
func readerGone(out io.Writer) bool {
	if k, ok := out.(keepOpen); ok {
		out = k.Writer
	}
	f, ok := out.(*os.File)
	if !ok {
		return false
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return false
	}
	gone := false
	err = conn.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(fds, 0)
		gone = err == nil && n > 0 && fds[0].Revents&unix.POLLERR != 0
	})
	return err == nil && gone
}
