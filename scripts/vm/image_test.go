package vm_test

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/cavaliergopher/cpio"

	"gopherscope/internal/testenv"
	"gopherscope/scripts/vm/console"
)

// Where things are in the image.
const (
	srcDir   = "/src"   // the module, as far as tests read it
	testsDir = "/tests" // the test binaries
	progsDir = "/progs" // testenv's cache of target programs
	toolPath = "/bin/gopherscope"

	ramDiskPath = "/brd.ko" // the kernel's module
)

// image is a file system that the kernel unpacks into memory
// (Documentation/driver-api/early-userspace/buffer-format.rst).
type image struct {
	t    *testing.T
	w    *cpio.Writer
	dirs map[string]bool
}

// buildImage writes the machine's files to path: the guest, the steps and all that
// they run.
func buildImage(t *testing.T, k *kernel, module string, steps []step, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	// Translated, unpacking takes longer than a better compression would save.
	z, err := gzip.NewWriterLevel(f, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	im := &image{t: t, w: cpio.NewWriter(z), dirs: map[string]bool{"/": true}}
	im.system(k)
	im.file(ramDiskPath, module)
	im.steps(k, steps)
	if err := errors.Join(im.w.Close(), z.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// applets are the commands of busybox that tests use.
var applets = []string{"sh", "true", "sleep", "id", "mount", "stat", "gzip", "insmod", "mkswap", "swapon"}

// system adds what is there whatever runs.
func (im *image) system(k *kernel) {
	im.file("/init", goBuild(im.t, k.arch, "./scripts/vm/guest"))
	im.file(toolPath, goBuild(im.t, k.arch, "./cmd/gopherscope"))
	im.file("/bin/busybox", k.busybox(im.t))
	for _, name := range applets {
		im.link("/bin/"+name, "busybox")
	}
	im.text("/etc/passwd", "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")
	im.text("/etc/group", "root:x:0:\nnogroup:x:65534:\n")
	for _, dir := range []string{"/proc", "/sys", "/dev", "/tmp", "/mnt"} {
		im.mkdir(dir)
	}
	root := testenv.ModuleRoot(im.t)
	im.file(srcDir+"/go.mod", filepath.Join(root, "go.mod"))
	im.tree(srcDir+"/testdata/testprog", testenv.Testprog(im.t))
}

// steps adds the steps' test binaries and target programs.
func (im *image) steps(k *kernel, steps []step) {
	root := testenv.ModuleRoot(im.t)
	var list []console.Step
	added := map[string]bool{}
	once := func(name string, add func()) {
		if !added[name] {
			added[name] = true
			add()
		}
	}
	for _, s := range steps {
		if pkg := s.pkg; pkg != "" {
			once(testPath(pkg), func() { im.file(testPath(pkg), goTest(im.t, k.arch, "./"+pkg)) })
			once(pkg, func() { im.tree(srcDir+"/"+pkg, filepath.Join(root, pkg)) })
		}
		for _, p := range s.programs {
			host := p.build
			if k.arch != "amd64" {
				host.GOARCH = k.arch // there it is the machine's own, and not part of the name
			}
			bin := testenv.BuildTarget(im.t, p.name, host)
			name := strings.Replace(filepath.Base(bin), host.String(), p.build.String(), 1)
			once(name, func() { im.file(path.Join(progsDir, name), bin) })
			if s.pkg == "" {
				once("/bin/"+p.name, func() { im.link("/bin/"+p.name, path.Join(progsDir, name)) })
			}
			if p.build.PIE && k.arch != runtime.GOARCH {
				once(armLoader, func() { im.file(armLoader, k.loader(im.t)) })
			}
			if p.build.HasC() {
				for _, lib := range libraries(im.t, bin) {
					once(lib, func() { im.file(lib, lib) })
				}
			}
		}
		list = append(list, s.guest())
	}
	data, err := json.Marshal(list)
	if err != nil {
		im.t.Fatal(err)
	}
	im.text(console.StepsPath, string(data))
	if k.invariant {
		im.text(console.CPUFlagsPath, strings.Join(cpuFlags(im.t), " "))
	}
}

// testPath is where a package's test binary is in the image.
func testPath(pkg string) string {
	return testsDir + "/" + strings.ReplaceAll(pkg, "/", "-") + ".test"
}

func goBuild(t *testing.T, arch, pkg string) string {
	t.Helper()
	return goCommand(t, arch, "build", pkg)
}

func goTest(t *testing.T, arch, pkg string) string {
	t.Helper()
	return goCommand(t, arch, "test", "-c", pkg)
}

// goCommand compiles a package to a file of the test's own.
func goCommand(t *testing.T, arch string, args ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "bin")
	cmd := exec.Command("go", append([]string{args[0], "-buildvcs=false", "-o", out}, args[1:]...)...)
	cmd.Dir = testenv.ModuleRoot(t)
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, text)
	}
	return out
}

// libraries are the shared libraries of a program and its loader, as this host has them.
func libraries(t *testing.T, bin string) []string {
	t.Helper()
	out, err := exec.Command("ldd", bin).CombinedOutput()
	if err != nil {
		t.Fatalf("ldd %s: %v\n%s", bin, err, out)
	}
	var libs []string
	for _, found := range regexp.MustCompile(`(/\S+) \(`).FindAllStringSubmatch(string(out), -1) {
		libs = append(libs, found[1])
	}
	return libs
}

func (im *image) header(h *cpio.Header) {
	im.t.Helper()
	if dir := path.Dir(h.Name); !im.dirs[dir] {
		im.mkdir(dir)
	}
	h.Name = strings.TrimPrefix(h.Name, "/")
	if err := im.w.WriteHeader(h); err != nil {
		im.t.Fatalf("%s: %v", h.Name, err)
	}
}

func (im *image) mkdir(dir string) {
	if !im.dirs[dir] {
		im.dirs[dir] = true
		im.header(&cpio.Header{Name: dir, Mode: cpio.TypeDir | 0o755, Links: 2})
	}
}

func (im *image) text(name, text string) {
	im.put(name, cpio.TypeReg|0o644, []byte(text))
}

// link adds a symbolic link; where it leads is its content.
func (im *image) link(name, target string) {
	im.put(name, cpio.TypeSymlink|0o777, []byte(target))
}

// file adds a file of the host under a name of the image.
func (im *image) file(name, from string) {
	im.t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		im.t.Fatal(err)
	}
	im.put(name, cpio.TypeReg|0o755, data)
}

func (im *image) put(name string, mode cpio.FileMode, data []byte) {
	im.t.Helper()
	im.header(&cpio.Header{Name: name, Mode: mode, Size: int64(len(data)), Links: 1})
	if _, err := im.w.Write(data); err != nil {
		im.t.Fatalf("%s: %v", name, err)
	}
}

// tree adds a directory and all below it.
func (im *image) tree(name, from string) {
	im.t.Helper()
	err := filepath.WalkDir(from, func(file string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(from, file)
		if err == nil {
			im.file(path.Join(name, filepath.ToSlash(rel)), file)
		}
		return err
	})
	if err != nil {
		im.t.Fatal(err)
	}
}

// cpuFlags are the flags by which Linux says that the time stamp counter is invariant.
// What qemu translates reads the host's counter (cpu_get_host_ticks, include/qemu/timer.h),
// but qemu does not say that it is invariant. So the guest adds the flags, if the host
// has them, and the inline engine can be tested without KVM; it compares the CPUs'
// counters by itself, as everywhere.
func cpuFlags(t *testing.T) []string {
	t.Helper()
	flags := []string{"constant_tsc", "nonstop_tsc"}
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		t.Fatal(err)
	}
	for _, flag := range flags {
		if !strings.Contains(string(text), " "+flag) {
			testenv.Missing(t, "a time stamp counter that is invariant: /proc/cpuinfo has no "+flag)
		}
	}
	return flags
}
