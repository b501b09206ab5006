package vm_test

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"gopherscope/internal/testenv"
)

// kernel is a kernel of Debian's or Ubuntu's and the machine for it.
type kernel struct {
	name  string // of the test
	suite string // the release that has it
	pkg   string // that stands for the release's current kernel; "" for Debian's
	arch  string // GOARCH, and Debian's name, too

	old       bool // older than what the ebpf engine needs
	multi     bool // has usable uprobe_multi links
	sleeps    bool // takes programs of uprobes that may sleep
	preempts  bool // puts programs at raw tracepoints off their CPU
	cachestat bool // has cachestat(2), which says what is in memory
	invariant bool // the time stamp counter is said to be invariant: see cpuFlags
}

// kernels are tested in this order. A release's kernel is the one that its users have
// today; sid's is the newest that Debian has. Ubuntu has those that Debian skipped: the oldest
// that the ebpf engine is for, and the one of its own current releases.
var kernels = []kernel{
	{name: "5.10", suite: "bullseye", arch: "amd64", old: true, invariant: true},
	{name: "5.15", suite: "jammy", pkg: "linux-image-virtual", arch: "amd64", invariant: true},
	{name: "6.1", suite: "bookworm", arch: "amd64", sleeps: true},
	{name: "6.8", suite: "jammy", pkg: "linux-image-virtual-hwe-22.04", arch: "amd64", multi: true, sleeps: true, invariant: true, cachestat: true},
	{name: "6.12", suite: "trixie", arch: "amd64", multi: true, sleeps: true, invariant: true, cachestat: true},
	{name: "newest", suite: "sid", arch: "amd64", multi: true, sleeps: true, preempts: true, invariant: true, cachestat: true},
	{name: "6.12-arm64", suite: "trixie", arch: "arm64", multi: true, sleeps: true},
}

// machine is qemu's name of the architecture.
func (k *kernel) machine() string {
	if k.arch == "arm64" {
		return "aarch64"
	}
	return "x86_64"
}

// qemuArgs make a machine without disk and network, whose console is stdout. Without KVM
// qemu translates every instruction.
func (k *kernel) qemuArgs(image string, kvm bool) []string {
	board, tty := "q35", "ttyS0"
	if k.arch == "arm64" {
		board, tty = "virt", "ttyAMA0"
	}
	// A busy host may not deliver the interrupts of the timer in time for the test of it.
	line := "console=" + tty + " quiet loglevel=1 panic=-1 no_timer_check rdinit=/init"
	args := []string{
		"-machine", board, "-cpu", "max", "-smp", "2", "-m", "3G", "-nodefaults", "-display", "none",
		"-serial", "stdio", "-no-reboot", "-kernel", image,
		// Only a panic goes to the console: the guest prints the rest at the end.
		"-append", line,
	}
	if kvm {
		return append(args, "-accel", "kvm")
	}
	return append(args, "-accel", "tcg,thread=single")
}

// haveKVM says whether KVM runs this kernel. That of a host which is a virtual machine itself
// may be there and not run it: qemu then ends at once, or the machine stands still. So it is
// tried: without a file system the kernel panics within seconds, and restarts, which ends qemu.
func (k *kernel) haveKVM(qemu, image string) bool {
	if k.arch != runtime.GOARCH || !exists("/dev/kvm") {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, qemu, k.qemuArgs(image, true)...).Output()
	return err == nil && strings.Contains(string(out), "Kernel panic")
}

// keyring has the keys that Debian signs its archive with; apt verifies with it.
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// cacheDir is where kernels are kept. Remove it to get newer ones.
func cacheDir(t *testing.T) string {
	t.Helper()
	base, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(base, "gopherscope-vm")
}

// fetch gives the kernel's image, its module of RAM disks and its version, from the cache if
// they are there.
func (k *kernel) fetch(t *testing.T) (image, module, version string) {
	t.Helper()
	a := apt{dir: filepath.Join(cacheDir(t), strings.TrimSuffix(k.suite+"-"+k.pkg, "-")+"-"+k.arch), suite: k.suite, arch: k.arch}
	found, err := filepath.Glob(filepath.Join(a.dir, "vmlinuz-*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(found) > 0 {
		image = found[len(found)-1]
		version = strings.TrimPrefix(filepath.Base(image), "vmlinuz-")
		if module = filepath.Join(a.dir, "brd-"+version+".ko"); exists(module) {
			return image, module, version
		}
	}
	meta := k.pkg
	if meta == "" {
		meta = "linux-image-cloud-" + k.arch
	} else {
		a.ubuntu = ubuntuKeyring(t)
	}
	image = a.extract(t, a.imagePackage(t, meta), kernelFile)
	version = strings.TrimPrefix(filepath.Base(image), "vmlinuz-")
	return image, a.ramDisk(t, version), version
}

// ramDisk gives the kernel's module of RAM disks. Debian's kernels up to 6.12 have their
// modules in the package of the image.
func (a *apt) ramDisk(t *testing.T, version string) string {
	t.Helper()
	pkg := "linux-modules-" + version
	if a.run(t, "apt-cache", "pkgnames", pkg) == "" {
		pkg = "linux-image-" + version
	}
	name := "brd-" + version + ".ko"
	file := a.extract(t, pkg, func(has string) string {
		if rest, ok := strings.CutPrefix(path.Base(has), "brd.ko"); ok && (rest == "" || rest == ".xz") {
			return name + rest
		}
		return ""
	})
	if path.Ext(file) == ".xz" {
		if out, err := exec.Command("xz", "-d", file).CombinedOutput(); err != nil {
			t.Fatalf("xz -d %s: %v\n%s", file, err, out)
		}
	}
	return filepath.Join(a.dir, name)
}

// armLoader is the dynamic loader of arm64, which a position independent program of Go's has
// although it needs no library. The ones for this host's own programs are this host's.
const armLoader = "/lib/ld-linux-aarch64.so.1"

// loader gives the loader at armLoader.
func (k *kernel) loader(t *testing.T) string {
	t.Helper()
	return k.fromDebian(t, "libc6", "lib/aarch64-linux-gnu/ld-linux-aarch64.so.1")
}

// busybox gives a shell and its usual commands in one static program.
func (k *kernel) busybox(t *testing.T) string {
	t.Helper()
	return k.fromDebian(t, "busybox-static", "bin/busybox")
}

// fromDebian gives a file of a package, from the cache if it is there.
func (k *kernel) fromDebian(t *testing.T, pkg, file string) string {
	t.Helper()
	name := path.Base(file)
	a := apt{dir: filepath.Join(cacheDir(t), "bookworm-"+k.arch), suite: "bookworm", arch: k.arch}
	if p := filepath.Join(a.dir, name); exists(p) {
		return p
	}
	a.update(t)
	return a.extract(t, pkg, func(has string) string {
		if has == file {
			return name
		}
		return ""
	})
}

// kernelFile gives the file of a package that is a kernel the name that it has in the
// cache, vmlinuz-VERSION; "" for others. Newer packages have it next to the modules.
func kernelFile(name string) string {
	if strings.HasPrefix(name, "boot/vmlinuz-") {
		return path.Base(name)
	}
	if dir, file := path.Split(name); file == "vmlinuz" && strings.HasPrefix(dir, "usr/lib/modules/") {
		return "vmlinuz-" + path.Base(dir)
	}
	return ""
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// apt is Debian's package manager with a state of its own: it sees one release for one
// architecture, and the host's packages are not touched.
type apt struct {
	dir, suite, arch string
	ubuntu           string // Ubuntu's keyring, when it is a release of Ubuntu's
}

// ubuntuKeyring gives the keys that Ubuntu signs its archive with, which Debian has since 13.
func ubuntuKeyring(t *testing.T) string {
	t.Helper()
	const name = "ubuntu-archive-keyring.gpg"
	a := apt{dir: filepath.Join(cacheDir(t), "trixie-keys"), suite: "trixie", arch: "amd64"}
	if p := filepath.Join(a.dir, name); exists(p) {
		return p
	}
	a.update(t)
	return a.extract(t, "ubuntu-keyring", func(has string) string {
		if path.Base(has) == name {
			return name
		}
		return ""
	})
}

// sources are the lines of sources.list.
func (a *apt) sources() string {
	line := func(key, url, suite string) string {
		return fmt.Sprintf("deb [signed-by=%s] %s %s main\n", key, url, suite)
	}
	const debian, security, ubuntu = "http://deb.debian.org/debian", "http://deb.debian.org/debian-security", "http://archive.ubuntu.com/ubuntu"
	switch {
	case a.ubuntu != "":
		return line(a.ubuntu, ubuntu, a.suite) + line(a.ubuntu, ubuntu, a.suite+"-updates")
	case a.suite == "sid": // which gets its security fixes directly
		return line(keyring, debian, a.suite)
	}
	return line(keyring, debian, a.suite) + line(keyring, security, a.suite+"-security")
}

// command is apt-get or apt-cache on that state.
func (a *apt) command(name string, args ...string) *exec.Cmd {
	state := filepath.Join(a.dir, "apt")
	var options []string
	for _, o := range []string{
		"Dir::Etc::sourcelist=" + filepath.Join(state, "sources.list"), "Dir::Etc::sourceparts=-",
		"Dir::Etc::preferences=-", "Dir::Etc::preferencesparts=-",
		"Dir::State=" + state, "Dir::State::status=" + filepath.Join(state, "status"), "Dir::Cache=" + state,
		"APT::Architecture=" + a.arch, "APT::Architectures=" + a.arch,
		"APT::Sandbox::User=root", // apt's own user cannot write below a home directory
		"Acquire::Languages=none", "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
	} {
		options = append(options, "-o", o)
	}
	cmd := exec.Command(name, append(options, args...)...)
	cmd.Dir, cmd.Env = a.dir, append(os.Environ(), "LC_ALL=C")
	return cmd
}

// run runs apt; without network the test is skipped, as without apt.
func (a *apt) run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := a.command(name, args...).CombinedOutput()
	if err != nil {
		testenv.Missing(t, fmt.Sprintf("%s %s for %s: %v\n%s", name, strings.Join(args, " "), a.suite, err, out))
	}
	return string(out)
}

// update reads the release's lists. apt refuses a list whose signature is not by the keyring.
func (a *apt) update(t *testing.T) {
	t.Helper()
	for _, need := range []string{keyring, "/usr/bin/apt-get", "/usr/bin/dpkg-deb"} {
		if !exists(need) {
			testenv.Missing(t, need+": kernels are fetched by Debian's apt")
		}
	}
	for _, dir := range []string{"lists/partial", "archives/partial"} {
		if err := os.MkdirAll(filepath.Join(a.dir, "apt", dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"sources.list": a.sources(), "status": ""} {
		if err := os.WriteFile(filepath.Join(a.dir, "apt", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	a.run(t, "apt-get", "update", "-o", "APT::Update::Error-Mode=any")
}

// imagePackage follows the dependencies of a package that only stands for the current
// kernel to the one that has the image.
func (a *apt) imagePackage(t *testing.T, name string) string {
	t.Helper()
	a.update(t)
	next := regexp.MustCompile(`(?m)^  Depends: (linux-(?:image|binary)-\S+)`)
	for range 3 { // linux-image-cloud-amd64, linux-image-7.2-cloud-amd64, linux-binary-7.2-cloud-amd64
		found := next.FindStringSubmatch(a.run(t, "apt-cache", "depends", "--important", name))
		if found == nil {
			break
		}
		name = strings.TrimSuffix(found[1], ":"+a.arch)
	}
	return name
}

// extract downloads a package and takes one file out of it, into the cache: the one for
// which named gives a name.
func (a *apt) extract(t *testing.T, name string, named func(path string) string) string {
	t.Helper()
	a.run(t, "apt-get", "download", name)
	debs, err := filepath.Glob(filepath.Join(a.dir, name+"_*.deb"))
	if err != nil || len(debs) != 1 {
		t.Fatalf("%d files of package %s in %s: %v", len(debs), name, a.dir, err)
	}
	defer os.Remove(debs[0])
	cmd := exec.Command("dpkg-deb", "--fsys-tarfile", debs[0])
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	file, err := fromTar(out, named, a.dir)
	if _, drain := io.Copy(io.Discard, out); err == nil {
		err = drain
	}
	if err := errors.Join(err, cmd.Wait()); err != nil {
		t.Fatalf("%s: %v", debs[0], err)
	}
	return file
}

// fromTar puts the file for which named gives a name into dir.
func fromTar(r io.Reader, named func(path string) string, dir string) (string, error) {
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if err != nil {
			return "", fmt.Errorf("the file is not in it: %w", err)
		}
		name := named(path.Clean(h.Name))
		if h.Typeflag != tar.TypeReg || name == "" {
			continue
		}
		file := filepath.Join(dir, name)
		f, err := os.OpenFile(file+".part", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
		if err != nil {
			return "", err
		}
		_, err = io.Copy(f, archive)
		if err := errors.Join(err, f.Close()); err != nil {
			return "", err
		}
		return file, os.Rename(file+".part", file)
	}
}
