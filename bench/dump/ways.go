package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A way is one way to dump all goroutines.
type way struct {
	name string
	// once has it measured once, on a program of its own, as it may harm it: Delve
	// does when it is given up.
	once bool
	dump func(t *target, limit time.Duration) (usage, error)
}

// usage is what a dump took.
type usage struct {
	reading time.Duration // of the program's memory alone; 0 if that is not apart
	rss     int64         // the most memory that the dumping process had, bytes; 0 for the program itself
}

func allWays(o options) []way {
	return []way{
		gopherscopeWay(o, "gopherscope dump --states", "--states", "--json"),
		gopherscopeGroups(o),
		gopherscopeWay(o, "gopherscope dump", "--json"),
		endpoint("pprof goroutine debug=1", "debug=1"),
		endpoint("pprof goroutine debug=2", "debug=2"),
		delve(o),
	}
}

func gopherscopeGroups(o options) way {
	return gopherscopeWay(o, "gopherscope dump --group", "--group", "--json")
}

// gopherscopeWay runs gopherscope dump. Its last line of JSON says how long the
// reading took.
func gopherscopeWay(o options, name string, args ...string) way {
	return way{name: name, dump: func(t *target, limit time.Duration) (usage, error) {
		tail := &tailWriter{}
		cmd := onCPU(o.cpu, o.gopherscope, append([]string{"dump", strconv.Itoa(t.pid())}, args...)...)
		cmd.Stdout = tail
		var messages bytes.Buffer
		cmd.Stderr = &messages
		if err := runLimited(cmd, limit); err != nil {
			return usage{}, fmt.Errorf("%w: %s", err, messages.String())
		}
		u := usage{rss: rss(cmd)}
		var summary struct {
			Ns int64 `json:"duration_ns"`
		}
		if lines := strings.Split(strings.TrimSpace(tail.String()), "\n"); json.Unmarshal([]byte(lines[len(lines)-1]), &summary) == nil {
			u.reading = time.Duration(summary.Ns)
		}
		return u, nil
	}}
}

// endpoint asks the program itself, as its operators would.
func endpoint(name, query string) way {
	return way{name: name, dump: func(t *target, limit time.Duration) (usage, error) {
		client := http.Client{Timeout: limit}
		resp, err := client.Get("http://" + t.addr + "/debug/pprof/goroutine?" + query)
		if err != nil {
			return usage{}, err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		return usage{}, err
	}}
}

// delve attaches, lists all goroutines with their stacks, and detaches.
func delve(o options) way {
	return way{name: "dlv attach, goroutines -t", once: true, dump: func(t *target, limit time.Duration) (_ usage, err error) {
		script, err := os.CreateTemp("", "dlv")
		if err != nil {
			return usage{}, err
		}
		defer func() { err = errors.Join(err, os.Remove(script.Name())) }()
		if _, err := script.WriteString("goroutines -t\nexit\n"); err != nil {
			return usage{}, err
		}
		if err := script.Close(); err != nil {
			return usage{}, err
		}
		cmd := exec.Command(o.dlv, "attach", "--allow-non-terminal-interactive=true", "--init", script.Name(), strconv.Itoa(t.pid()))
		cmd.Stdin = strings.NewReader("n\n") // whether to kill the program
		err = runLimited(cmd, limit)
		return usage{rss: rss(cmd)}, err
	}}
}

var errLimit = errors.New("took longer than the limit")

// runLimited runs a command; one that takes too long is interrupted, and killed
// if that does not help.
func runLimited(cmd *exec.Cmd, limit time.Duration) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	select {
	case err := <-ended:
		return errors.Join(errLimit, err)
	case <-time.After(20 * time.Second):
	}
	if err := cmd.Process.Kill(); err != nil {
		return err
	}
	return errors.Join(errLimit, <-ended)
}

func rss(cmd *exec.Cmd) int64 {
	if use, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		return use.Maxrss << 10
	}
	return 0
}

// tailWriter keeps the last bytes that were written.
type tailWriter struct{ b []byte }

// maxTail is how much a tailWriter keeps.
const maxTail = 64 << 10

func (w *tailWriter) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	if n := len(w.b); n > 2*maxTail {
		w.b = append(w.b[:0], w.b[n-maxTail:]...)
	}
	return len(p), nil
}

func (w *tailWriter) String() string { return string(w.b) }
