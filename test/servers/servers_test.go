// Package servers_test traces servers that nobody here wrote and nobody
// prepared, under load. It builds them from the module proxy, which takes
// minutes, so it runs only with GOPHERSCOPE_SERVERS=1: make servers.
package servers_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"gopherscope/internal/testenv"
)

// server is a program from the module proxy, and how to load it.
type server struct {
	name, module string
	args         func(addr string) []string
	load         func(t *testing.T, addr string, until time.Time)
}

var servers = []server{
	{
		name:   "nats-server",
		module: "github.com/nats-io/nats-server/v2@v2.14.5",
		args: func(addr string) []string {
			host, port, _ := net.SplitHostPort(addr)
			return []string{"-a", host, "-p", port}
		},
		load: loadNATS,
	},
	{
		name:   "caddy",
		module: "github.com/caddyserver/caddy/v2/cmd/caddy@v2.10.2",
		args: func(addr string) []string {
			return []string{"respond", "--listen", addr, "hello"}
		},
		load: loadHTTP,
	},
}

// traceFor is how long each server is traced.
const traceFor = 5 * time.Second

func TestServers(t *testing.T) {
	if os.Getenv("GOPHERSCOPE_SERVERS") != "1" {
		t.Skip("builds servers from the module proxy: set GOPHERSCOPE_SERVERS=1, or make servers")
	}
	testenv.RequireBPF(t)
	tool := filepath.Join(t.TempDir(), "gopherscope")
	build := exec.Command("go", "build", "-o", tool, "./cmd/gopherscope")
	build.Dir = testenv.ModuleRoot(t)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) { s.test(t, tool) })
	}
}

func (s server) test(t *testing.T, tool string) {
	dir := t.TempDir()
	install := exec.Command("go", "install", "-trimpath", "-ldflags=-s -w", s.module)
	install.Env = append(os.Environ(), "GOBIN="+dir, "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	addr := freeAddr(t)
	p := testenv.StartEnv(t, []string{"HOME=" + dir}, filepath.Join(dir, s.name), s.args(addr)...)
	waitFor(t, addr)

	trace := exec.Command(tool, "trace", "--json", "--max-overhead", "off", "-d", traceFor.String(), strconv.Itoa(p.PID()))
	trace.Stderr = os.Stderr
	out, err := trace.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := trace.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.load(t, addr, time.Now().Add(traceFor))
	}()
	check(t, out)
	if err := trace.Wait(); err != nil {
		t.Error(err)
	}
	<-done
	waitFor(t, addr) // it still answers
}

// line is what check looks at.
type line struct {
	Type       string
	GoID       uint64
	From, To   string
	Events     uint64
	Violations uint64
	Lost       map[string]uint64
}

// check holds each goroutine's lines to continuity, and the summary to what a
// trace of a loaded server must be.
func check(t *testing.T, out io.Reader) {
	t.Helper()
	last := map[uint64]string{}
	var summary line
	breaks := 0
	scanner := bufio.NewScanner(out)
	for scanner.Scan() {
		var l line
		if err := json.Unmarshal(scanner.Bytes(), &l); err != nil {
			t.Fatalf("%v: %s", err, scanner.Text())
		}
		if l.Type == "summary" {
			summary = l
			continue
		}
		if prev, ok := last[l.GoID]; ok && prev != l.From && l.From != "dead" {
			breaks++
		}
		if l.GoID == 0 {
			t.Errorf("goid 0: %s", scanner.Text())
		}
		last[l.GoID] = l.To
	}
	t.Logf("%d events of %d goroutines", summary.Events, len(last))
	if breaks > 0 || summary.Violations != 0 || summary.Lost["total"] != 0 {
		t.Errorf("%d breaks of continuity, %d violations, lost %v", breaks, summary.Violations, summary.Lost)
	}
	if summary.Events < 5000 || len(last) < 10 {
		t.Errorf("only %d events of %d goroutines from a loaded server", summary.Events, len(last))
	}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// waitFor waits until something accepts connections at addr.
func waitFor(t *testing.T, addr string) {
	t.Helper()
	for end := time.Now().Add(testenv.Deadline); ; time.Sleep(50 * time.Millisecond) {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// clients load a server at the same time.
const clients = 8

func loadHTTP(t *testing.T, addr string, until time.Time) {
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for time.Now().Before(until) {
				resp, err := http.Get("http://" + addr + "/")
				if err != nil {
					t.Error(err)
					return
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
	}
	wg.Wait()
}

// loadNATS speaks the server's text protocol: each client subscribes to a
// subject, publishes to it and reads what comes back.
func loadNATS(t *testing.T, addr string, until time.Time) {
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			r := bufio.NewReader(conn)
			fmt.Fprintf(conn, "CONNECT {\"verbose\":false}\r\nSUB s%d 1\r\n", i)
			for time.Now().Before(until) {
				fmt.Fprintf(conn, "PUB s%d 5\r\nhello\r\n", i)
				for {
					text, err := r.ReadString('\n')
					if err != nil {
						t.Error(err)
						return
					}
					if text == "hello\r\n" {
						break
					}
				}
			}
		})
	}
	wg.Wait()
}
