package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// target is the program that is dumped.
type target struct {
	cmd  *exec.Cmd
	addr string
}

func buildTarget(dir string) (string, error) {
	bin := filepath.Join(dir, "target")
	if out, err := exec.Command("go", "build", "-o", bin, "./bench/dump/target").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build target: %w\n%s", err, out)
	}
	return bin, nil
}

// onCPU is a command that is kept to one CPU; to none in particular when cpu is "".
func onCPU(cpu, name string, args ...string) *exec.Cmd {
	if cpu == "" {
		return exec.Command(name, args...)
	}
	return exec.Command("taskset", append([]string{"-c", cpu, name}, args...)...)
}

func startTarget(bin string, goroutines int, cpu string) (*target, error) {
	t := &target{cmd: onCPU(cpu, bin, strconv.Itoa(goroutines))}
	t.cmd.Env = append(os.Environ(), "GOMAXPROCS=2") // also where it has one CPU
	out, err := t.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := t.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.stop()
		return nil, fmt.Errorf("the target said nothing: %w", err)
	}
	t.addr = strings.TrimSpace(line)
	return t, nil
}

func (t *target) pid() int { return t.cmd.Process.Pid }

func (t *target) stop() {
	_ = t.cmd.Process.Kill() // it may have ended
	_ = t.cmd.Wait()         // killed, as it was told
}

// stall is what the target noticed.
type stall struct {
	longest time.Duration
	long    int64 // stalls of more than a millisecond
}

// stalls are those during f.
func (t *target) stalls(f func() error) (stall, error) {
	if _, err := t.stall(); err != nil { // forget what was before
		return stall{}, err
	}
	if err := f(); err != nil {
		return stall{}, err
	}
	return t.stall()
}

func (t *target) stall() (s stall, err error) {
	client := http.Client{Timeout: time.Minute}
	resp, err := client.Get("http://" + t.addr + "/stall")
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return s, err
	}
	_, err = fmt.Sscan(string(body), (*int64)(&s.longest), &s.long)
	return s, err
}
