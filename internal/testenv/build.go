package testenv

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Build says how a target program is compiled. The zero Build is a plain
// static build by the running toolchain for this machine.
type Build struct {
	Go           string // "1.26" or "1.26.11"; "" is the running toolchain
	Stripped     bool   // -ldflags "-s -w" and -trimpath
	PIE          bool   // -buildmode=pie
	Cgo          bool   // CGO_ENABLED=1, linked by the system linker
	Race         bool   // -race; implies that cgo is enabled
	NoOpt        bool   // -gcflags "all=-N -l"
	ExternalLink bool   // -ldflags -linkmode=external without C code in the program
	GOARCH       string // "" is this machine's
}

// String is the build's name, good for file names and subtests:
// "go1.26.11-pie-stripped".
func (b Build) String() string {
	version := runtime.Version()
	if b.Go != "" {
		version = "go" + b.Go
		if full, err := patched(b.Go); err == nil {
			version = "go" + full
		}
	}
	name := []string{strings.ReplaceAll(version, " ", "_")}
	for _, mode := range []struct {
		on   bool
		name string
	}{
		{b.PIE, "pie"}, {b.Cgo, "cgo"}, {b.Race, "race"}, {b.NoOpt, "noopt"},
		{b.ExternalLink, "extlink"}, {b.Stripped, "stripped"}, {b.GOARCH != "", b.GOARCH},
	} {
		if mode.on {
			name = append(name, mode.name)
		}
	}
	if len(name) == 1 {
		name = append(name, "plain")
	}
	return strings.Join(name, "-")
}

// Minor is N of the Go 1.N that the build is compiled with.
func (b Build) Minor() int { return Minor(b.Go) }

// HasC says whether the program's files that need cgo are compiled in.
func (b Build) HasC() bool { return b.Cgo || b.Race }

// BuildTarget compiles the program testdata/testprog/prog and returns the path
// of the executable. It compiles once per content of testdata/testprog and
// Build: the result is kept in a cache directory, the environment's
// GOPHERSCOPE_TESTPROG or gopherscope-testprog in the user's cache directory,
// which test processes share. The file must not be changed; copy it instead.
//
// A program that is in the cache needs nothing else. For another, the test is
// skipped when the toolchain or the C compiler that the build needs is missing, and
// fails when the program does not compile.
func BuildTarget(t testing.TB, prog string, b Build) string {
	t.Helper()
	src := Testprog(t)
	bin, err := cached(src, prog, b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(bin); err == nil {
		return bin
	}
	RequireToolchain(t, b.Go)
	if b.needsC() {
		requireCompiler(t)
	}
	err = buildTarget(src, prog, b, bin)
	if err != nil {
		t.Fatalf("build %s %s: %v", prog, b, err)
	}
	return bin
}

func (b Build) needsC() bool { return b.HasC() || b.ExternalLink }

func requireCompiler(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		Missing(t, "gcc: "+err.Error())
	}
}

// cached is where in the cache a program is, or will be.
func cached(src, prog string, b Build) (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	sum, err := sourceHash(src)
	if err != nil {
		return "", err
	}
	return filepath.Join(cache, fmt.Sprintf("%s-%s-%s", prog, b, sum)), nil
}

// buildTarget compiles a program to its place in the cache.
func buildTarget(src, prog string, b Build, bin string) error {
	unlock, err := lock(bin + ".lock")
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(bin); err == nil {
		return nil
	}
	if err := compile(src, prog, b, bin+".tmp"); err != nil {
		return err
	}
	removeOld(bin[:len(bin)-hashLen])
	return os.Rename(bin+".tmp", bin)
}

// keepFor is how long a program of former sources stays: another checkout may
// still use it.
const keepFor = 24 * time.Hour

// removeOld removes the programs whose path is prefix and a hash, when they are
// old. A file that cannot be removed stays: it does no harm.
func removeOld(prefix string) {
	old, _ := filepath.Glob(prefix + strings.Repeat("[0-9a-f]", hashLen))
	for _, path := range old {
		if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) > keepFor {
			_ = os.Remove(path)
			_ = os.Remove(path + ".lock")
		}
	}
}

// compile runs the go command of the build's toolchain.
func compile(src, prog string, b Build, out string) error {
	goCmd, env := "go", []string{"GOTOOLCHAIN=local"}
	if b.Go != "" {
		version, err := patched(b.Go)
		if err != nil {
			return err
		}
		dir, err := goroot(version)
		if err != nil {
			return err
		}
		goCmd = filepath.Join(dir, "bin", "go")
		env = append(env, "GOROOT="+dir)
	}
	cgo := "CGO_ENABLED=0"
	if b.needsC() {
		cgo = "CGO_ENABLED=1"
	}
	env = append(env, cgo, "GOFLAGS=", "GOWORK=off")
	if b.GOARCH != "" {
		env = append(env, "GOARCH="+b.GOARCH)
	}
	cmd := exec.Command(goCmd, append(b.args(), "-o", out, "./"+prog)...)
	cmd.Dir, cmd.Env = src, environ(env...)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, text)
	}
	return nil
}

// args is the go command's arguments but for the program and its output.
func (b Build) args() []string {
	args := []string{"build", "-buildvcs=false"}
	var ldflags []string
	if b.Stripped {
		args = append(args, "-trimpath")
		ldflags = append(ldflags, "-s", "-w")
	}
	if b.Cgo || b.ExternalLink {
		ldflags = append(ldflags, "-linkmode=external")
	}
	if b.PIE {
		args = append(args, "-buildmode=pie")
	}
	if b.Race {
		args = append(args, "-race")
	}
	if b.NoOpt {
		args = append(args, "-gcflags=all=-N -l")
	}
	if b.ExternalLink && !b.HasC() {
		args = append(args, "-tags=nocgocode")
	}
	if len(ldflags) > 0 {
		args = append(args, "-ldflags="+strings.Join(ldflags, " "))
	}
	return args
}

// cacheDir is where compiled programs are kept.
func cacheDir() (string, error) {
	dir := os.Getenv("GOPHERSCOPE_TESTPROG")
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			base = os.TempDir()
		}
		dir = filepath.Join(base, "gopherscope-testprog")
	}
	return dir, os.MkdirAll(dir, 0o755)
}

// lock takes an exclusive lock between processes, and returns what ends it.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}

// hashLen is the number of digits of a sourceHash.
const hashLen = 12

// sourceHash identifies the content of every file below src.
func sourceHash(src string) (string, error) {
	sum := sha256.New()
	err := filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		fmt.Fprintf(sum, "%s %d\n%s", strings.TrimPrefix(path, src), len(data), data)
		return err
	})
	return hex.EncodeToString(sum.Sum(nil))[:hashLen], err
}
