package gotrace_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"

	"gopherscope/internal/testenv"
	"gopherscope/test/traced"
)

// traceFile is a Go execution trace in a file.
func traceFile(t *testing.T) (path string, tr *traced.Trace) {
	t.Helper()
	tr = traced.EBPF.Launch(t, "all", testenv.Build{Go: "1.26"}, "60")
	whole(t, tr)
	path = filepath.Join(t.TempDir(), "all.trace")
	if err := os.WriteFile(path, convert(t, tr), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, tr
}

// TestTool gives the trace to go tool trace, which makes profiles of it and serves pages
// about it.
func TestTool(t *testing.T) {
	path, tr := traceFile(t)
	t.Run("profiles", func(t *testing.T) { profiles(t, path, tr) })
	t.Run("pages", func(t *testing.T) { pages(t, path) })
}

// profiles wants the sums of the profiles to be those of the lines that the tool printed.
func profiles(t *testing.T, path string, tr *traced.Trace) {
	sums := sumLines(tr)
	for _, kind := range []string{"sched", "sync", "syscall", "net"} {
		out, err := exec.Command("go", "tool", "trace", "-pprof="+kind, path).Output()
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		p, err := profile.ParseData(out)
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		var got, start int64
		for _, s := range p.Sample {
			got += s.Value[1]
			if len(s.Location) > 0 && strings.HasPrefix(s.Location[0].Line[0].Function.Name, "testprog/internal/work.") {
				start += s.Value[1]
			}
		}
		want := sums[kind]
		// Changes that come late for others of the same moment, and times of which the
		// end is not known.
		if d := max(got-want, want-got); want == 0 || d > want/100+1e6 {
			t.Errorf("%s: %d ns, and the lines say %d", kind, got, want)
		}
		if start == 0 {
			t.Errorf("%s: nothing is by a function of the program", kind)
		}
		t.Logf("%s: %d ns, %.4f of the lines", kind, got, float64(got)/float64(want))
	}
}

// sumLines adds up the time that was spent for what each of the profiles counts. That is of
// goroutines from when they first run (cmd/trace/pprof.go pprofMatchingGoroutines).
func sumLines(tr *traced.Trace) map[string]int64 {
	sums, now, began := map[string]int64{}, map[int64]at{}, map[int64]bool{}
	for i := range tr.Transitions {
		l := &tr.Transitions[i]
		was := now[l.GoID]
		kind := ""
		switch {
		case l.To == "runnable":
			kind = "sched"
		case l.To == "syscall":
			kind = "syscall"
		case l.To == "waiting" && l.Reason == "IO wait":
			kind = "net"
		case l.To == "waiting" && !l.FakeWait && l.Via != "coroutine":
			for _, word := range []string{"chan ", "select", "sync", "semacquire"} {
				if strings.Contains(l.Reason, word) && !strings.Contains(l.Reason, "(n") {
					kind = "sync"
				}
			}
		}
		if began[l.GoID] {
			sums[was.state] += l.MonoNs - was.time
		}
		began[l.GoID] = began[l.GoID] || l.To == "running"
		now[l.GoID] = at{kind, l.MonoNs}
		if l.Via == "no-p" {
			now[l.GoID] = at{kind, was.time} // the end of the system call
		}
	}
	return sums
}

// pages wants the pages that people look at, with the program's goroutines on them.
func pages(t *testing.T, path string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	ctx, cancel := context.WithTimeout(context.Background(), testenv.Deadline)
	defer cancel()
	var stderr bytes.Buffer
	bin, err := exec.Command("go", "tool", "-n", "trace").Output()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, strings.TrimSpace(string(bin)), "-http="+addr, path)
	cmd.Env = append(os.Environ(), "BROWSER=true")
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		_ = cmd.Wait() // it was killed
	}()
	for page, words := range map[string][]string{
		"/goroutines":                  {"testprog/internal/work.pinger", "runtime.main"},
		"/goroutine?name=runtime.main": {"chan receive", "Sched wait", "Execution time"},
		"/jsontrace":                   {`"go"`, `"unblock`, "testprog/internal/work.spin", "GC concurrent mark phase", "stop-the-world (GC mark termination)"},
		"/mmu":                         {"Minimum mutator utilization"},
	} {
		body := get(ctx, t, "http://"+addr+page)
		for _, word := range words {
			if !strings.Contains(strings.ToLower(body), strings.ToLower(word)) {
				t.Errorf("%s has no %q; it has %d bytes: %.300s", page, word, len(body), body)
			}
		}
	}
	if t.Failed() {
		t.Logf("go tool trace: %s", stderr.String())
	}
}

// get gets a page of a server that is starting.
func get(ctx context.Context, t *testing.T, url string) string {
	t.Helper()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("%s: %s, %v: %.300s", url, resp.Status, err, body)
			}
			return string(body)
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: %v", url, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
