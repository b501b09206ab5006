package house

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gopherscope/internal/event"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/testenv"
)

// packages are the module's packages with their direct imports.
func packages(t *testing.T) map[string][]string {
	t.Helper()
	cmd := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...")
	cmd.Dir = testenv.ModuleRoot(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	pkgs := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		pkgs[words[0]] = words[1:]
	}
	return pkgs
}

// layers has the packages that each package may import from this module. A
// package that is not here may import all.
var layers = map[string][]string{
	"goruntime":     {},
	"event":         {"goruntime"},
	"gobinary":      {"goruntime"},
	"process":       {},
	"clock":         {},
	"tsc":           {},
	"privilege":     {},
	"ptrace":        {},
	"goid":          {},
	"elapsed":       {},
	"gstate":        {"event", "goid", "goruntime"},
	"seed":          {"dump", "event", "goruntime"},
	"stream":        {"engine", "event"},
	"recording":     {"event", "goid", "goruntime", "stream"},
	"gotrace":       {"event", "goruntime", "gstate", "stream"},
	"engine":        {"event"},
	"engine/probes": {"event", "goid", "gobinary", "goruntime"},
	"engine/inline": {"clock", "engine", "engine/probes", "event", "gobinary", "goruntime", "process", "ptrace", "target", "tsc"},
	"corefile":      {"process"},
	"target":        {"process", "corefile", "gobinary", "goruntime"},
	"engine/ebpf":   {"clock", "engine", "engine/probes", "event", "target", "process", "gobinary", "goruntime"},
	"perf":          {"snapshot"},
	"waiton":        {"dump", "target", "process", "goruntime"},
	"report":        {"elapsed", "event", "gstate", "goruntime", "engine", "dump", "leaks", "stream", "summary"},
	"dump":          {"goruntime"},
	"pprof":         {"dump", "event", "goruntime", "profile"},
	"profile":       {"elapsed", "event", "goid", "goruntime", "gstate", "stream"},
	"cut":           {"engine", "event", "goid", "goruntime", "gstate", "stream"},
	"perfetto":      {"engine", "event", "goid", "goruntime", "gstate", "stream"},
	"leaks":         {"dump", "goruntime"},
	"tui":           {"dump", "elapsed", "engine", "event", "goid", "goruntime", "gstate", "recording", "stream"},
	"labels":        {"event", "goid", "goruntime"},
	"summary":       {"event", "goid", "goruntime", "gstate"},
	"trigger":       {"event", "gstate", "summary"},
}

// only has the packages that may import a library.
var only = map[string][]string{
	"github.com/cilium/ebpf":        {"gopherscope/internal/engine/ebpf", "gopherscope/bench", "gopherscope/internal/testenv"},
	"github.com/spf13/cobra":        {"gopherscope/internal/cli"},
	"github.com/HdrHistogram":       {"gopherscope/internal/summary"},
	"github.com/klauspost/compress": {"gopherscope/internal/recording"},
	"golang.org/x/arch/x86/x86asm":  {"gopherscope/internal/gobinary"},
	"google.golang.org/protobuf":    {"gopherscope/internal/perfetto", "gopherscope/internal/perfetto/perfettotest"},
	"charm.land":                    {"gopherscope/internal/tui"},
	"github.com/charmbracelet":      {"gopherscope/internal/tui"},
	"github.com/google/pprof":       {"gopherscope/internal/pprof", "gopherscope/internal/cli"},
}

// pure has the packages that touch no system: functions of a stream of events.
var pure = []string{"elapsed", "event", "goid", "gstate", "stream", "seed", "report", "goruntime", "dump", "pprof", "profile", "leaks", "perfetto", "cut", "gotrace", "labels", "recording", "summary", "trigger", "tui"}

// system has the packages, with those below them, that touch a system.
var system = []string{"os", "net", "syscall", "unsafe", "golang.org/x/sys"}

// within says whether a package is lib or below it.
func within(pkg, lib string) bool { return pkg == lib || strings.HasPrefix(pkg, lib+"/") }

func TestPure(t *testing.T) {
	pkgs := packages(t)
	for _, name := range pure {
		imports, ok := pkgs["gopherscope/internal/"+name]
		if !ok {
			t.Errorf("there is no package %s", name)
		}
		for _, imp := range imports {
			for _, lib := range system {
				if within(imp, lib) {
					t.Errorf("%s imports %s: it must not touch the system", name, imp)
				}
			}
		}
	}
}

func TestImports(t *testing.T) {
	const internal = "gopherscope/internal/"
	for pkg, imports := range packages(t) {
		allowed, layered := layers[strings.TrimPrefix(pkg, internal)]
		for _, imp := range imports {
			for lib, users := range only {
				if within(imp, lib) && !slices.Contains(users, pkg) {
					t.Errorf("%s imports %s, which is for %v", pkg, imp, users)
				}
			}
			if name, own := strings.CutPrefix(imp, internal); own && layered && !slices.Contains(allowed, name) {
				t.Errorf("%s imports %s: against the direction of imports", pkg, imp)
			}
		}
	}
}

func TestDocumented(t *testing.T) {
	root := testenv.ModuleRoot(t)
	for pkg := range packages(t) {
		dir := filepath.Join(root, strings.TrimPrefix(pkg, "gopherscope/"))
		paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(paths) == 0 {
			t.Fatalf("%d Go files in %s: %v", len(paths), dir, err)
		}
		fset := token.NewFileSet()
		var files []*ast.File
		for _, path := range paths {
			if strings.HasSuffix(path, "_bpfel.go") || strings.HasSuffix(path, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, f)
		}
		if len(files) == 0 {
			continue // tests only
		}
		d, err := doc.NewFromFiles(fset, files, pkg)
		if err != nil {
			t.Fatal(err)
		}
		if d.Doc == "" {
			t.Errorf("package %s has no comment", pkg)
		}
		undocumented(t, pkg, d)
	}
}

func undocumented(t *testing.T, pkg string, d *doc.Package) {
	t.Helper()
	report := func(kind, name, text string) {
		if ast.IsExported(name) && strings.TrimSpace(text) == "" {
			t.Errorf("%s: %s %s has no comment", pkg, kind, name)
		}
	}
	funcs := d.Funcs
	values := slices.Concat(d.Consts, d.Vars)
	for _, typ := range d.Types {
		report("type", typ.Name, typ.Doc)
		funcs = append(funcs, typ.Funcs...)
		values = slices.Concat(values, typ.Consts, typ.Vars)
		if ast.IsExported(typ.Name) {
			funcs = append(funcs, typ.Methods...)
		}
	}
	for _, f := range funcs {
		report("func", f.Name, f.Doc)
	}
	for _, v := range values {
		for _, spec := range v.Decl.Specs {
			value := spec.(*ast.ValueSpec)
			// One comment may stand for a group.
			report("const or var", value.Names[0].Name, v.Doc+value.Doc.Text()+value.Comment.Text())
		}
	}
}

// TestEventsPage holds docs/events.md to the catalogue.
func TestEventsPage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(testenv.ModuleRoot(t), "docs", "events.md"))
	if err != nil {
		t.Fatal(err)
	}
	for via := event.ViaOther; ; via++ {
		name := via.String()
		if via != event.ViaOther && name == event.ViaOther.String() {
			break // past the last
		}
		if !strings.Contains(string(page), "| `"+name+"` |") {
			t.Errorf("docs/events.md does not list the path %q", name)
		}
	}
	for s := range goruntime.Status(32) {
		if s.Valid() && !strings.Contains(string(page), "| `"+s.Name()+"` |") {
			t.Errorf("docs/events.md does not list the state %q", s.Name())
		}
	}
}
