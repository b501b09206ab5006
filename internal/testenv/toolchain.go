package testenv

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// latest is the newest patch release of each supported minor release, oldest
// first. It is the only list of toolchains in the project.
var latest = []string{
	"1.18.10", "1.19.13", "1.20.14", "1.21.13", "1.22.12",
	"1.23.12", "1.24.13", "1.25.14", "1.26.11", "1.27.4",
}

// Versions is the toolchains that targets are built with: the newest patch
// release of every supported minor, oldest first, as "1.26.11".
func Versions() []string { return append([]string(nil), latest...) }

// Minor is N of a version "1.N" or "1.N.P", and the running toolchain's for "".
func Minor(version string) int {
	if version == "" {
		version = strings.TrimPrefix(runtime.Version(), "go")
	}
	_, rest, _ := strings.Cut(version, ".")
	digits, _, _ := strings.Cut(rest, ".")
	n, err := strconv.Atoi(digits)
	if err != nil {
		return 0
	}
	return n
}

// patched completes "1.26" to "1.26.11"; a version with a patch stays.
func patched(version string) (string, error) {
	if strings.Count(version, ".") == 2 {
		return version, nil
	}
	for _, v := range latest {
		if strings.HasPrefix(v, version+".") {
			return v, nil
		}
	}
	return "", fmt.Errorf("toolchain %q: not one of %s", version, strings.Join(latest, " "))
}

// root is one toolchain's GOROOT, found once per process.
type root struct {
	once sync.Once
	dir  string
	err  error
}

var roots sync.Map // version with its patch -> *root

// goroot is the GOROOT of a toolchain, downloaded by the go command when the
// module cache does not have it.
func goroot(version string) (string, error) {
	r, _ := roots.LoadOrStore(version, new(root))
	found := r.(*root)
	found.once.Do(func() { found.dir, found.err = findRoot(version) })
	return found.dir, found.err
}

func findRoot(version string) (string, error) {
	cmd := exec.Command("go", "env", "GOROOT")
	cmd.Dir = os.TempDir()
	cmd.Env = environ("GOTOOLCHAIN=go"+version, "GOROOT=")
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("toolchain go%s: %w", version, describe(err))
	}
	dir := strings.TrimSpace(string(out))
	if Minor(version) != 19 {
		return dir, nil
	}
	return outsideModCache(version, dir)
}

// outsideModCache is a path of a toolchain that does not lie in the module
// cache: cmd/go of 1.19 reports every package there as an "import of unknown
// directory". A symbolic link is path enough.
func outsideModCache(version, dir string) (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	link := filepath.Join(cache, "go"+version)
	if target, err := os.Readlink(link); err == nil && target == dir {
		return link, nil
	}
	unlock, err := lock(link + ".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if target, err := os.Readlink(link); err == nil && target == dir {
		return link, nil
	}
	if err := os.RemoveAll(link); err != nil {
		return "", err
	}
	return link, os.Symlink(dir, link)
}

// describe adds what a command wrote to stderr to its error.
func describe(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	return err
}

// environ is this process's environment without what would change a build,
// with the given settings added.
func environ(settings ...string) []string {
	dropped := map[string]bool{
		"GOFLAGS": true, "GOWORK": true, "GOROOT": true, "GOARCH": true, "GOOS": true,
		"GOEXPERIMENT": true, "GOTOOLCHAIN": true, "CGO_ENABLED": true, "GODEBUG": true,
		"GOAMD64": true, "GO111MODULE": true,
	}
	var env []string
	for _, kv := range os.Environ() {
		key, _, _ := strings.Cut(kv, "=")
		if !dropped[key] {
			env = append(env, kv)
		}
	}
	return append(env, settings...)
}

// RequireToolchain skips the test when the toolchain ("1.26", "1.26.11", ""
// for the running one) can neither be found nor downloaded.
func RequireToolchain(t testing.TB, version string) {
	t.Helper()
	if version == "" {
		return
	}
	full, err := patched(version)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := goroot(full); err != nil {
		Missing(t, err.Error())
	}
}
