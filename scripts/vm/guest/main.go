// Command guest is the first process of a virtual machine in which the project's tests
// run on another kernel. It mounts what a Linux system has mounted, runs the steps that
// the host has put into the image, writes what they print to the console between lines
// that the host understands (see package gopherscope/scripts/vm/console), and turns the
// machine off.
//
// It must run as process 1 of a machine that is thrown away, and refuses anything else.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"gopherscope/scripts/vm/console"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == stepsArg {
		if err := runSteps(); err != nil {
			fmt.Println(console.Failed(err))
			os.Exit(1)
		}
		return
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "guest: runs only as the first process of a virtual machine")
		os.Exit(2)
	}
	if err := initialize(); err != nil {
		fmt.Println(console.Failed(err))
	}
	unix.Sync()
	// The host starts the machine with -no-reboot: a restart ends it, and needs no ACPI.
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART); err != nil {
		fmt.Println(console.Failed(err))
	}
}

// stepsArg makes the program the child that runs the steps.
const stepsArg = "steps"

// initialize does what only process 1 does. The steps have a process of their own, since
// process 1 must wait for every orphan, also for those that os/exec would wait for.
func initialize() error {
	if err := setUp(); err != nil {
		return err
	}
	child, err := os.StartProcess("/proc/self/exe", []string{"guest", stepsArg}, &os.ProcAttr{
		Env:   environment,
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
	})
	if err != nil {
		return fmt.Errorf("start the steps: %w", err)
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("wait for the steps: %w", err)
		case pid == child.Pid && status.Signaled():
			return fmt.Errorf("the steps were ended by %v", status.Signal())
		case pid == child.Pid:
			return nil
		}
	}
}

// environment is what every step finds, besides its own settings.
var environment = []string{
	"PATH=/bin", "HOME=/tmp", "USER=root", "LANG=C.UTF-8", "TERM=dumb",
}

func runSteps() error {
	data, err := os.ReadFile(console.StepsPath)
	if err != nil {
		return err
	}
	var steps []console.Step
	if err := json.Unmarshal(data, &steps); err != nil {
		return fmt.Errorf("%s: %w", console.StepsPath, err)
	}
	for _, s := range steps {
		fmt.Println(console.Begin(s.Name))
		begin := time.Now()
		code, err := run(s)
		if err != nil {
			fmt.Println("guest:", err)
		}
		fmt.Println(console.End(s.Name, code, time.Since(begin)))
	}
	fmt.Println(console.Begin(console.KernelLog))
	code, err := printKernelLog()
	if err != nil {
		fmt.Println("guest:", err)
	}
	fmt.Println(console.End(console.KernelLog, code, 0))
	return nil
}

// run runs one step and gives its exit code, or -1 with the reason when there is none.
// What it left running is ended, so that steps do not disturb each other.
func run(s console.Step) (code int, err error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return -1, err
	}
	defer null.Close()
	cmd := exec.Command(s.Args[0], s.Args[1:]...)
	cmd.Dir, cmd.Env = s.Dir, append(os.Environ(), s.Env...)
	// Files of this process, no pipes: Wait then does not wait for what the step left running.
	cmd.Stdin, cmd.Stdout, cmd.Stderr = null, os.Stdout, os.Stdout
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return -1, err
	}
	group := -cmd.Process.Pid
	timer := time.AfterFunc(s.Timeout, func() { _ = unix.Kill(group, unix.SIGQUIT) })
	hard := time.AfterFunc(s.Timeout+10*time.Second, func() { _ = unix.Kill(group, unix.SIGKILL) })
	err = cmd.Wait()
	hard.Stop()
	inTime := timer.Stop()
	_ = unix.Kill(group, unix.SIGKILL)
	if !inTime { // the exit code is the signal's doing
		return -1, errors.Join(fmt.Errorf("not done after %v", s.Timeout), err)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return -1, err
	}
	return 0, nil
}
