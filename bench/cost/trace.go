package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// said is what the summary of a trace says, for each round trip.
type said struct {
	perTrip float64 // ns
	changes float64
	lost    float64 // of the changes, from 0 to 1
}

// measuring is for how long the tool measures the run time of its programs, in the target
// at work: before that is done nothing is compared.
const measuring = 600 * time.Millisecond

// traced lets the target work under a trace that prints nothing, and returns what it did
// and what the summary says. An event more or less is made by the target's waiting for work.
func (t *target) traced(tool string, c config, each time.Duration) (d done, s said, err error) {
	// There is no goroutine of that number.
	cmd := exec.Command(tool, "trace", "--json", "--engine", c.engine, "--max-overhead", "off", "--goid", "9223372036854775807", strconv.Itoa(t.cmd.Process.Pid))
	var out bytes.Buffer
	cmd.Stdout = &out
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return d, s, err
	}
	if err := cmd.Start(); err != nil {
		return d, s, err
	}
	messages := bufio.NewScanner(stderr)
	attached := false
	for !attached && messages.Scan() {
		attached = strings.Contains(messages.Text(), "goroutines that were there")
	}
	first, err := t.work(c, measuring)
	if err == nil {
		d, err = t.work(c, each)
	}
	signalled := cmd.Process.Signal(os.Interrupt)
	for messages.Scan() {
		// to its end, so that it never waits for a reader
	}
	if err := errors.Join(err, signalled, cmd.Wait()); err != nil {
		return d, s, fmt.Errorf("trace: %w", err)
	}
	return d, s, s.read(out.Bytes(), first.trips+d.trips)
}

func (s *said) read(out []byte, trips float64) error {
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	var sum struct {
		Type   string
		Events float64
		Lost   struct{ Total float64 }
		Cost   struct {
			Ns float64 `json:"total_ns"`
		}
	}
	if err := json.Unmarshal(lines[len(lines)-1], &sum); err != nil {
		return fmt.Errorf("summary: %w", err)
	}
	if sum.Type != "summary" || sum.Events == 0 || trips == 0 {
		return fmt.Errorf("no summary of a trace with events: %+v", sum)
	}
	*s = said{sum.Cost.Ns / trips, (sum.Events + sum.Lost.Total) / trips, sum.Lost.Total / (sum.Events + sum.Lost.Total)}
	return nil
}
