package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// errForeign says that a file, in a directory where everybody may put some, is not one
// that this user made.
var errForeign = errors.New("somebody else put it into a directory that all may write to")

// createError adds the hint to an error of createFile.
func createError(what string, err error) error {
	if errors.Is(err, errForeign) {
		return withHint(fmt.Errorf("%s: %w", what, err), "nothing was written; choose another name, or a directory of your own")
	}
	return withHint(fmt.Errorf("%s: %w", what, err), "choose a file in a directory that you may write to")
}

// createFile opens a file for writing, readable by its owner only if it is a new one,
// and changes nothing of one that is there.
//
// What gopherscope writes as root, it must not write where another user wants it to. So
// in a directory like /tmp (sticky, and writable for all) a symbolic link is followed, and a file
// that is there is used, only if they are this user's own, and the file has no other name.
// The kernel has the same rules behind switches, which are off until someone sets them
// (fs.protected_symlinks, fs.protected_regular, fs.protected_hardlinks; fs/namei.c,
// may_follow_link, may_create_in_sticky). Elsewhere who may
// write to the directory is trusted, as by any program.
func createFile(path string) (*os.File, error) { return createWithin(path, maxLinks) }

// maxLinks is how many symbolic links the kernel follows (include/linux/namei.h, MAXSYMLINKS).
const maxLinks = 40

func createWithin(path string, links int) (*os.File, error) {
	shared, err := isShared(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	const mode = os.O_WRONLY | os.O_CREATE
	if !shared {
		return os.OpenFile(path, mode, 0o600)
	}
	// Without O_NONBLOCK somebody else's FIFO could make us wait for ever.
	f, err := os.OpenFile(path, mode|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	switch {
	case errors.Is(err, unix.ELOOP) && links > 0:
		return createBehind(path, links-1)
	case errors.Is(err, unix.ENXIO): // a FIFO that nobody reads yet
		if st, lerr := os.Lstat(path); lerr == nil && ownedByUs(st) {
			return os.OpenFile(path, mode|unix.O_NOFOLLOW, 0o600)
		}
		return nil, err
	case err != nil:
		return nil, err
	}
	if err := errors.Join(checkOwn(f, path), unix.SetNonblock(int(f.Fd()), false)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// createBehind is createFile for a symbolic link in a shared directory. Only its owner can
// replace what is there.
func createBehind(link string, links int) (*os.File, error) {
	st, err := os.Lstat(link)
	if err != nil {
		return nil, err
	}
	if !ownedByUs(st) {
		return nil, &fs.PathError{Op: "open", Path: link, Err: errForeign}
	}
	to, err := os.Readlink(link)
	if err != nil {
		return nil, err
	}
	if !filepath.IsAbs(to) {
		to = filepath.Join(filepath.Dir(link), to)
	}
	return createWithin(to, links)
}

// isShared says whether everybody may make files in a directory, and remove only their
// own.
func isShared(dir string) (bool, error) {
	st, err := os.Stat(dir)
	if err != nil {
		return false, err
	}
	return st.Mode()&fs.ModeSticky != 0 && st.Mode().Perm()&0o002 != 0, nil
}

// checkOwn refuses an open file that is not this user's.
func checkOwn(f *os.File, path string) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && st.Mode().IsRegular() && sys.Nlink > 1 || !ownedByUs(st) {
		return &fs.PathError{Op: "open", Path: path, Err: errForeign}
	}
	return nil
}

func ownedByUs(st fs.FileInfo) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && int(sys.Uid) == os.Geteuid()
}

// emptyFile takes the content of an open file away, and the rights of others to what will
// be written to it. What is no file, as a pipe, stays as it is.
func emptyFile(f *os.File) error {
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() {
		return err
	}
	// Its owner decides who may read it; in no other case is it forbidden to change that.
	if err = f.Chmod(0o600); errors.Is(err, fs.ErrPermission) {
		err = nil
	}
	return errors.Join(err, f.Truncate(0))
}
