// Package vm_test runs the project's own tests on other kernels and on arm64: in virtual
// machines that live for one test each. The kernels are Debian's and Ubuntu's, fetched by apt and
// so verified by their signatures; everything else in a machine was built here.
//
// It takes many minutes, since nothing is assumed of the host's processor: where there
// is no KVM, or for arm64, qemu translates every instruction. So it runs only with
// GOPHERSCOPE_VM=1: make vm. GOPHERSCOPE_VM_CONSOLE names a file that gets the
// consoles as they come. Kernels stay in the user's cache directory, below
// gopherscope-vm; remove that to get newer ones.
package vm_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gopherscope/internal/testenv"
	"gopherscope/scripts/vm/console"
)

// machineLife is the longest that a machine may take: many times what it takes
// on an idle host.
const machineLife = 30 * time.Minute

func TestKernels(t *testing.T) {
	if os.Getenv("GOPHERSCOPE_VM") != "1" {
		t.Skip("boots virtual machines for many minutes: set GOPHERSCOPE_VM=1, or make vm")
	}
	for _, k := range kernels {
		t.Run(k.name, k.test) // one after the other: each has all CPUs
	}
}

// test boots the kernel and holds what its machine prints to what is expected.
func (k *kernel) test(t *testing.T) {
	qemu, err := exec.LookPath("qemu-system-" + k.machine())
	if err != nil {
		testenv.Missing(t, err.Error())
	}
	image, module, version := k.fetch(t)
	steps := k.steps()
	initrd := filepath.Join(t.TempDir(), "initrd")
	buildImage(t, k, module, steps, initrd)
	kvm := k.haveKVM(qemu, image)
	t.Logf("Linux %s, %s, KVM: %v", version, k.arch, kvm)

	begin := time.Now()
	results, outside, err := boot(t, qemu, append(k.qemuArgs(image, kvm), "-initrd", initrd))
	if err != nil {
		t.Errorf("%v\nthe end of the console:\n%s", err, tail(outside))
	}
	t.Logf("the machine ran for %v", time.Since(begin).Round(time.Second))
	for _, s := range steps {
		t.Run(s.name, func(t *testing.T) {
			i := slices.IndexFunc(results, func(r console.Result) bool { return r.Name == s.name })
			if i < 0 {
				t.Fatal("not run")
			}
			s.judge(t, &results[i])
		})
	}
	t.Run(console.KernelLog, func(t *testing.T) { judgeKernel(t, results, outside) })
}

// boot runs a machine until it turns itself off and gives what its console said.
func boot(t *testing.T, qemu string, args []string) (results []console.Result, outside []string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), machineLife)
	defer cancel()
	cmd := exec.CommandContext(ctx, qemu, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	results, outside, err = console.Read(out, progress(os.Getenv("GOPHERSCOPE_VM_CONSOLE")))
	_, _ = io.Copy(io.Discard, out) // when a line was too long
	if end := cmd.Wait(); end != nil && err == nil {
		err = fmt.Errorf("%s: %w\n%s", filepath.Base(qemu), end, stderr.String())
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("the machine still ran after %v", machineLife)
	}
	return results, outside, err
}

// progress writes the console to a file as it comes, if there is to be one.
func progress(path string) func(line string) {
	if path == "" {
		return func(string) {}
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return func(string) {}
	}
	return func(line string) { fmt.Fprintln(f, line) }
}

// tail is the end of a long text.
func tail(lines []string) string {
	const most = 40
	return strings.Join(lines[max(0, len(lines)-most):], "\n")
}
