package dump

import (
	"slices"
	"strings"
)

// Visible are the frames that the runtime of Go 1.minor prints of a stack: those
// of the program and of the runtime's exported functions, without the wrappers
// that the compiler made; all if that leaves none (runtime/traceback.go,
// traceback1 and showfuncinfo; gentraceback and showframe before Go 1.21). The
// result may share memory with frames, and is not to be changed.
func Visible(frames []Frame, minor int) []Frame {
	shown := pick(frames, func(f *Frame, first bool, callee string) bool {
		if f.Wrapper && elidesWrapper(callee) {
			return false
		}
		if f.Func == "runtime.gopanic" && !first { // where deferred calls begin
			return true
		}
		return printed(f.Func, minor)
	})
	if len(shown) == 0 {
		return frames
	}
	return shown
}

// WithoutWrappers are the frames of a stack that a profile has: all but the
// wrappers that the compiler made (runtime/traceback.go, tracebackPCs;
// gentraceback before Go 1.21). The result may share memory with frames, and is
// not to be changed.
func WithoutWrappers(frames []Frame) []Frame {
	return pick(frames, func(f *Frame, _ bool, callee string) bool {
		return !f.Wrapper || !elidesWrapper(callee)
	})
}

// pick are the frames that show wants. show is told whether none was wanted
// before, and the function of the frame within.
func pick(frames []Frame, show func(f *Frame, first bool, callee string) bool) []Frame {
	var out []Frame // of its own memory as soon as one in the middle is left out
	n, callee := 0, ""
	for i := range frames {
		f := &frames[i]
		if show(f, n == 0, callee) {
			switch {
			case n == 0:
				out = frames[i : i+1 : i+1]
			case cap(out) == n && &frames[i-1] == &out[n-1]:
				out = frames[i-n : i+1 : i+1]
			case cap(out) == n:
				out = append(slices.Clone(out), *f)
			default:
				out = append(out, *f)
			}
			n++
		}
		callee = f.Func
	}
	return out
}

// printed says whether the runtime prints the frames of a function that is no
// wrapper (runtime/traceback.go, showfuncinfo).
func printed(name string, minor int) bool {
	switch name {
	case "runtime.runFinalizers", "runtime.runCleanups":
		return minor >= 25
	}
	return strings.Contains(name, ".") && (!strings.HasPrefix(name, "runtime.") || exported(name, minor))
}

// exported says whether a function of package runtime is exported; from Go 1.23
// on methods are, too (runtime/traceback.go, isExportedRuntime).
func exported(name string, minor int) bool {
	name = strings.TrimPrefix(name, "runtime.")
	if i := strings.LastIndexByte(name, '.'); i >= 0 && minor >= 23 {
		receiver := name[:i]
		if inner, ok := strings.CutPrefix(receiver, "(*"); ok && len(receiver) > 3 && strings.HasSuffix(inner, ")") {
			receiver = inner[:len(inner)-1]
		}
		if receiver != "" && !upper(receiver) {
			return false
		}
		name = name[i+1:]
	}
	return upper(name)
}

// upper says whether s begins with an ASCII capital.
func upper(s string) bool { return s != "" && 'A' <= s[0] && s[0] <= 'Z' }

// elidesWrapper says whether a wrapper that called that function is left out: one
// that panicked itself, instead of calling what it wraps, is not
// (runtime/traceback.go, elideWrapperCalling).
func elidesWrapper(callee string) bool {
	switch callee {
	case "runtime.gopanic", "runtime.sigpanic", "runtime.panicwrap":
		return false
	}
	return true
}

// Creator is the go statement that the runtime prints as the creator of g; nil if
// it prints none: for the main goroutine, those that the runtime made, and where
// nothing is known (runtime/traceback.go, printcreatedby). With all, it is that
// of the runtime's goroutines too.
func (d *Dump) Creator(g *Goroutine, all bool) *Site {
	site := &d.Sites[g.Created]
	if site.Outer == "" || g.ID == 1 || !all && !printed(site.Outer, d.Version.Minor) {
		return nil
	}
	return site
}
