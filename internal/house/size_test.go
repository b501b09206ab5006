package house

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gopherscope/internal/testenv"
)

// What a reader can hold at once. Tests are mostly tables, and may be longer.
const (
	maxFileLines     = 500
	maxFunctionLines = 60
)

// sources are what files in Go, C and assembly end with.
var sources = []string{".go", ".c", ".h", ".S", ".s"}

// TestSizes holds all sources that are written by hand to the limits.
func TestSizes(t *testing.T) {
	root := testenv.ModuleRoot(t)
	seen := map[string]int{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if path != root && strings.HasPrefix(entry.Name(), ".") {
				return filepath.SkipDir
			}
			return nil
		}
		ext := filepath.Ext(path)
		if !entry.Type().IsRegular() || !slices.Contains(sources, ext) || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil || bytes.HasPrefix(text, []byte("// Code generated ")) {
			return err
		}
		seen[ext]++
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if n := bytes.Count(text, []byte("\n")); n > maxFileLines {
			t.Errorf("%s has %d lines: more than %d", name, n, maxFileLines)
		}
		if ext == ".go" {
			functionSizes(t, name, text)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, ext := range sources {
		if seen[ext] == 0 {
			t.Errorf("no %s file was looked at", ext)
		}
	}
}

func functionSizes(t *testing.T, name string, text []byte) {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, text, parser.SkipObjectResolution)
	if err != nil {
		t.Error(err)
		return
	}
	for _, decl := range file.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok {
			continue
		}
		if n := fset.Position(f.End()).Line - fset.Position(f.Pos()).Line + 1; n > maxFunctionLines {
			t.Errorf("%s: %s has %d lines: more than %d", name, f.Name.Name, n, maxFunctionLines)
		}
	}
}
