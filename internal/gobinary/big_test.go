package gobinary

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
)

// tracedFuncs are some of the functions that a tracer looks up, and structs.
var (
	tracedFuncs   = []string{"casgstatus", "execute", "park_m", "ready", "goschedImpl", "newproc1", "reentersyscall", "exitsyscall"}
	tracedStructs = []string{"runtime.g", "runtime.m", "runtime.p", "runtime.sudog", "runtime.hchan"}
)

// lookUp does what a tracer does first with a file: it opens it, looks up sixty
// functions by name and decodes the structs.
func lookUp(tb testing.TB, r io.ReaderAt, size int64) *File {
	tb.Helper()
	f, err := NewFile(r, size)
	if err != nil {
		tb.Fatal(err)
	}
	for i := range 60 {
		mustFunc(tb, f, runtimePrefix+tracedFuncs[i%len(tracedFuncs)])
	}
	for _, name := range tracedStructs {
		if _, err := f.Struct(name); err != nil {
			tb.Fatal(err)
		}
	}
	return f
}

// A countingReader counts the bytes that are read through it.
type countingReader struct {
	r io.ReaderAt
	n atomic.Int64
}

func (c *countingReader) ReadAt(b []byte, off int64) (int, error) {
	n, err := c.r.ReadAt(b, off)
	c.n.Add(int64(n))
	return n, err
}

// TestCost bounds what a look into a big executable, the go command, reads and
// allocates. Its function table is read once, and little else.
func TestCost(t *testing.T) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	osf, err := os.Open(filepath.Join(strings.TrimSpace(string(root)), "bin", "go"))
	if err != nil {
		t.Fatal(err)
	}
	defer osf.Close()
	st, err := osf.Stat()
	if err != nil {
		t.Fatal(err)
	}
	r := &countingReader{r: osf}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f := lookUp(t, r, st.Size())
	runtime.ReadMemStats(&after)

	table := int64(f.table.funcs.addr + f.table.funcs.size - f.table.addr)
	if got, most := r.n.Load(), table+8<<20; got > most {
		t.Errorf("read %d bytes, want at most %d: the function table's %d once, and 8 MiB", got, most, table)
	}
	if got := after.TotalAlloc - before.TotalAlloc; got > 12<<20 {
		t.Errorf("allocated %d bytes, want at most 12 MiB whatever the file's size", got)
	}
	// The functions of package runtime are listed, some 1,500; not the 15,000
	// of all.
	if got, most := after.Mallocs-before.Mallocs, uint64(20_000); got > most {
		t.Errorf("allocated %d objects, want at most %d", got, most)
	}
}

// BenchmarkOpenBig measures [lookUp] on an executable of some 100 MB with 200,000
// functions, which is compiled for it. The first run takes minutes; with -short the
// executable is a small one.
func BenchmarkOpenBig(b *testing.B) {
	packages := 200
	if testing.Short() {
		packages = 1
	}
	osf, err := os.Open(buildBig(b, packages, 1000))
	if err != nil {
		b.Fatal(err)
	}
	defer osf.Close()
	st, err := osf.Stat()
	if err != nil {
		b.Fatal(err)
	}
	var before, after runtime.MemStats
	b.ReportAllocs()
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		f := lookUp(b, osf, st.Size())
		runtime.GC()
		runtime.ReadMemStats(&after)
		runtime.KeepAlive(f)
	}
	b.ReportMetric(float64(st.Size())/1e6, "file-MB")
	b.ReportMetric(float64(after.HeapAlloc-min(before.HeapAlloc, after.HeapAlloc))/1e6, "held-MB")
}

// buildBig compiles a program of so many packages of so many functions each.
func buildBig(tb testing.TB, packages, funcs int) string {
	tb.Helper()
	dir := tb.TempDir()
	write := func(name, text string) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			tb.Fatal(err)
		}
	}
	write("go.mod", "module big\n\ngo 1.18\n")
	var imports, calls strings.Builder
	for p := range packages {
		var text strings.Builder
		fmt.Fprintf(&text, "package p%d\n\nimport \"fmt\"\n\nvar All = []func(int) string{\n", p)
		for n := range funcs {
			fmt.Fprintf(&text, "\tF%d,\n", n)
		}
		text.WriteString("}\n")
		for n := range funcs {
			fmt.Fprintf(&text, "\nfunc F%d(n int) string {\n\tif n > %d {\n\t\treturn fmt.Sprint(n*%d, n)\n\t}\n\treturn fmt.Sprintf(\"%%d %d\", n)\n}\n", n, n, p+2, n)
		}
		write(fmt.Sprintf("p%d/p.go", p), text.String())
		fmt.Fprintf(&imports, "\t\"big/p%d\"\n", p)
		fmt.Fprintf(&calls, "\tfor _, f := range p%d.All {\n\t\tprintln(f(1))\n\t}\n", p)
	}
	write("main.go", "package main\n\nimport (\n"+imports.String()+")\n\nfunc main() {\n"+calls.String()+"}\n")
	bin := filepath.Join(dir, "big.exe")
	cmd := exec.Command("go", "build", "-trimpath", "-o", bin, ".")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("%v\n%s", err, out)
	}
	return bin
}
