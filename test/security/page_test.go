package security_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gopherscope/internal/testenv"
)

// TestPage holds docs/security.md to the tests: each that it names is there, and each of
// this package is named.
func TestPage(t *testing.T) {
	root := testenv.ModuleRoot(t)
	page, err := os.ReadFile(filepath.Join(root, "docs", "security.md"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("grep", "-rhoE", "--include=*_test.go", `^func (Test|Fuzz)\w+`, ".")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	defined := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		defined[strings.TrimPrefix(strings.TrimSpace(line), "func ")] = true
	}
	names := regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z]+)`").FindAllStringSubmatch(string(page), -1)
	if len(names) < 10 {
		t.Errorf("the page names %d tests", len(names))
	}
	for _, name := range names {
		if !defined[name[1]] {
			t.Errorf("docs/security.md names %s, which is not there", name[1])
		}
	}
	own, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range own {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range regexp.MustCompile(`(?m)^func (Test[A-Za-z]+)\(t `).FindAllStringSubmatch(string(text), -1) {
			if name := f[1]; name != "TestPage" && !strings.Contains(string(page), "`"+name+"`") {
				t.Errorf("docs/security.md does not name %s", name)
			}
		}
	}
}
