// Package console is what the host and its guest, the first process of a virtual
// machine, have in common: the steps that the host puts into the image, and the lines
// on the console by which the guest says which step prints and how it ended.
package console

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// StepsPath is where in the image the steps are, as JSON: a list of [Step].
const StepsPath = "/steps.json"

// CPUFlagsPath is where in the image flags can be that the guest adds to those in
// /proc/cpuinfo: what is true of the processor and not said by the machine.
const CPUFlagsPath = "/cpu-flags"

// KernelLog is the name of the last step, which the guest adds: the warnings and worse
// that the kernel has logged.
const KernelLog = "kernel-log"

// Step is one command that the guest runs.
type Step struct {
	Name    string        // one word
	Args    []string      // the program and its arguments
	Dir     string        // where it runs; "" is /
	Env     []string      // settings besides the guest's own, as KEY=VALUE
	Timeout time.Duration // after which it gets a SIGQUIT, and soon a SIGKILL
}

// mark begins the lines that are no step's output. No program prints an SOH.
const mark = "\x01vm "

// Begin is the line before the output of a step.
func Begin(name string) string { return mark + "begin " + name }

// End is the line after it; code is -1 when the step did not exit by itself.
func End(name string, code int, took time.Duration) string {
	return fmt.Sprintf("%send %s %d %d", mark, name, code, took.Milliseconds())
}

// Failed is the line that says that the guest itself cannot go on.
func Failed(err error) string { return mark + "failed " + err.Error() }

// Result is a step's outcome.
type Result struct {
	Name   string
	Output []string // lines
	Code   int      // the exit code; -1 when it did not exit by itself
	Took   time.Duration
	Ended  bool // false when the console ended before the step did
}

// Read reads a console to its end and gives the results in order, and the lines outside
// of all steps: what firmware and kernel print. Each line is passed to progress, too, as
// it comes. An error says that the guest gave up; what was read until then is valid.
func Read(r io.Reader, progress func(line string)) (results []Result, rest []string, err error) {
	var now *Result
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		line := strings.TrimRight(scanner.Text(), "\r")
		// A program may have left its last line open.
		text, command, marked := strings.Cut(line, mark)
		if text = plain(text); text != "" || !marked {
			progress(text)
			if now != nil && !now.Ended {
				now.Output = append(now.Output, text)
			} else {
				rest = append(rest, text)
			}
		}
		words := strings.Fields(command)
		switch {
		case len(words) == 2 && words[0] == "begin":
			results = append(results, Result{Name: words[1], Code: -1})
			now = &results[len(results)-1]
		case len(words) == 4 && words[0] == "end" && now != nil && words[1] == now.Name:
			ms, _ := strconv.Atoi(words[3])
			now.Code, _ = strconv.Atoi(words[2])
			now.Took, now.Ended = time.Duration(ms)*time.Millisecond, true
		case marked:
			err = fmt.Errorf("guest: %s", plain(command))
		}
	}
	if err == nil {
		err = scanner.Err()
	}
	return results, rest, err
}

// control is what firmware writes to a terminal to clear it and the like.
var control = regexp.MustCompile(`\x1b(\[[0-9;?=]*[A-Za-z]|c)|[\x00-\x08\x0b-\x1f\x7f]`)

// plain is a line without what would move a terminal's cursor.
func plain(s string) string { return control.ReplaceAllString(s, "") }
