package goruntime

import "strings"

// passing are the packages of Go whose code only hands on a wait or a system call: who
// called it says more.
var passing = map[string]bool{
	"runtime": true, "sync": true, "syscall": true, "time": true, "os": true, "os/signal": true, "io": true, "bufio": true, "net": true,
	"context": true, "iter": true, "reflect": true, "crypto/tls": true, "golang.org/x/sys/unix": true,
}

// Passing says whether a function, with its package path as in a stack, is of a package
// of Go's own that only hands on a wait. The innermost function of a stack that is not
// is the one that people look for.
func Passing(fn string) bool {
	pkg := packageOf(fn)
	root, _, _ := strings.Cut(pkg, "/")
	return passing[pkg] || root == "internal" || root == "runtime" || root == "sync"
}

// packageOf is the package path of a function: "net/http" of
// "net/http.(*Server).Serve". There can be paths in type arguments, too; dots in the last
// element of a path are escaped there.
func packageOf(fn string) string {
	path, _, _ := strings.Cut(fn, "[")
	slash := strings.LastIndexByte(path, '/') + 1
	name, _, _ := strings.Cut(fn[slash:], ".")
	return fn[:slash] + name
}
