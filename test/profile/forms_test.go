package profile_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"gopherscope/internal/testenv"
	"gopherscope/test/traced"
)

// address is where the web interface is, in what gopherscope says.
var address = regexp.MustCompile(`profile at (http://127\.0\.0\.1:\d+)(/\w+)/ui/ \(`)

// get is the page at a URL and its status.
func get(t *testing.T, url string) (string, int) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body), resp.StatusCode
}

// TestHTTP looks at the profile in the web interface, also where nobody may, and ends it.
func TestHTTP(t *testing.T) {
	e := traced.Engines()[0]
	bin, out, tool := testenv.BuildTarget(t, "profile", testenv.Build{}), filepath.Join(t.TempDir(), "p"), traced.Tool(t)
	t.Chdir(t.TempDir()) // pprof looks for what is below a directory of the same name here
	scope := testenv.Start(t, tool, flags(e, "--kind", "wall", "--http", "127.0.0.1:0", "-o", out, "--", bin)...)
	var found []string
	for begin := time.Now(); found == nil; time.Sleep(20 * time.Millisecond) {
		if found = address.FindStringSubmatch(scope.Stderr()); time.Since(begin) > testenv.Deadline {
			t.Fatalf("no address:\n%s", scope.Stderr())
		}
	}
	host, secret := found[1], found[2]
	for page, want := range map[string]string{
		"/ui/": "main.receives", "/ui/top": "main.receives", "/ui/source?f=main%5C.burns": "runtime.LockOSThread()", "/ui/peek?f=main%5C.sleeps": "time.Sleep",
	} {
		if body, status := get(t, host+secret+page); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: status %d, no %q in %d bytes", page, status, want, len(body))
		}
	}
	for _, page := range []string{"/", "/ui/", "/x/ui/", secret + "/ui/nothing", secret + "x/ui/", "/debug/pprof/"} {
		if _, status := get(t, host+page); status != http.StatusNotFound {
			t.Errorf("%s: status %d", page, status)
		}
	}
	if p := read(t, out); len(p.Sample) == 0 {
		t.Error("no samples in the file")
	}
	scope.Signal(os.Interrupt)
	if err := scope.Wait(); err != nil {
		t.Errorf("%v\n%s", err, scope.Stderr())
	}
}

// TestForms writes a run as folded stacks and as a file for speedscope: the pseudo frames
// and the values are the same in both as in a profile, up to what differs between runs.
func TestForms(t *testing.T) {
	e := traced.Engines()[len(traced.Engines())-1]
	bin := testenv.BuildTarget(t, "profile", testenv.Build{})
	form := func(name string, kind string) []byte {
		out := filepath.Join(t.TempDir(), name)
		scope := testenv.Start(t, traced.Tool(t), flags(e, "--kind", kind, "--format", name, "-o", out, "--", bin)...)
		if err := scope.Wait(); err != nil {
			t.Fatalf("%v\n%s", err, scope.Stderr())
		}
		data, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	slept := int64(0)
	for line := range strings.Lines(string(form("folded", "wall"))) {
		stack, value, ok := cutLast(strings.TrimSuffix(line, "\n"))
		ns, err := strconv.ParseInt(value, 10, 64)
		if !ok || err != nil || ns <= 0 {
			t.Fatalf("line %q", line)
		}
		if strings.HasSuffix(stack, "main.sleeps;time.Sleep;[waiting: sleep]") {
			slept += ns
		}
	}
	if slept < int64(30*5*time.Millisecond) {
		t.Errorf("slept for %v", time.Duration(slept))
	}
	var file struct {
		Shared   struct{ Frames []struct{ Name string } }
		Profiles []struct {
			Unit    string
			Samples [][]int
			Weights []int64
		}
	}
	if err := json.Unmarshal(form("speedscope", "created"), &file); err != nil {
		t.Fatal(err)
	}
	one, spawned := file.Profiles[0], map[string]int64{}
	for i, stack := range one.Samples {
		spawned[file.Shared.Frames[stack[len(stack)-1]].Name] += one.Weights[i]
	}
	for _, by := range []string{"main.locks", "main.waits", "main.conds", "main.reads", "main.accepts"} {
		if spawned[by] != 30 {
			t.Errorf("%s created %d goroutines, want 30", by, spawned[by])
		}
	}
	if spawned["main.all"] != 13 || one.Unit != "none" {
		t.Errorf("main.all created %d goroutines; unit %s", spawned["main.all"], one.Unit)
	}
}

// cutLast cuts at the last space.
func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, ' ')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}
