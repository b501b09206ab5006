//go:build amd64

package hard_test

import (
	"encoding/json"
	"fmt"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"gopherscope/internal/gobinary"
	"gopherscope/internal/testenv"
	"gopherscope/test/traced"
)

// debugger is Delve, which has attached to the program and lets it run up to a breakpoint.
type debugger struct {
	*testenv.Process
	s      *subject
	client *rpc.Client
	stop   *rpc.Call // done when the program has come to the breakpoint
}

// debug attaches Delve: Documentation/api/json-rpc in its source.
func (s *subject) debug() *debugger {
	s.t.Helper()
	dlv := filepath.Join(testenv.ModuleRoot(s.t), "bin", "dlv")
	if _, err := os.Stat(dlv); err != nil {
		testenv.Missing(s.t, "Delve (make bin/dlv): "+err.Error())
	}
	p := testenv.Start(s.t, dlv, "attach", s.operand(), "--headless", "--accept-multiclient", "--api-version=2", "--listen=127.0.0.1:0")
	const listening = "API server listening at: "
	client, err := jsonrpc.Dial("tcp", strings.TrimPrefix(p.WaitLine(listening), listening))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { client.Close() })
	d := &debugger{Process: p, s: s, client: client}
	d.call("CreateBreakpoint", map[string]any{"Breakpoint": map[string]any{"functionName": "main.reached", "line": -1}})
	// The tracer is one of its threads.
	if _, err := os.Stat(fmt.Sprintf("/proc/%d/task/%s", p.PID(), s.tracer())); err != nil {
		s.t.Fatal(err)
	}
	var state json.RawMessage
	d.stop = client.Go("RPCServer.Command", map[string]string{"name": "continue"}, &state, make(chan *rpc.Call, 1))
	s.do("work 100") // it runs
	return d
}

func (d *debugger) call(method string, args any) {
	d.s.t.Helper()
	var any json.RawMessage
	if err := d.client.Call("RPCServer."+method, args, &any); err != nil {
		d.s.t.Fatalf("%s: %v", method, err)
	}
}

// leave has Delve let go of the program when it is at the breakpoint. To halt it instead
// would not be safe: Delve does that with a SIGTRAP to the process, and lets go of it before
// it has come, now and then, on a busy machine. The program then dies of it, whether
// gopherscope is there or not.
func (d *debugger) leave() {
	d.s.t.Helper()
	d.s.WriteLine("reach")
	if stop := <-d.stop.Done; stop.Error != nil {
		d.s.t.Fatal(stop.Error)
	}
	d.call("Detach", map[string]bool{"Kill": false})
	waitFor(d.s.t, "Delve to leave", func() bool { return d.s.tracer() == "0" })
	d.s.answered("reach")
}

// tracer is the process that traces the program with ptrace; "0" if there is none.
func (s *subject) tracer() string {
	s.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid))
	if err != nil {
		s.t.Fatal(err)
	}
	for text := range strings.Lines(string(status)) {
		if by, ok := strings.CutPrefix(text, "TracerPid:"); ok {
			return strings.TrimSpace(by)
		}
	}
	s.t.Fatal("no TracerPid")
	return ""
}

// TestDebugged: a debugger is there when gopherscope comes.
func TestDebugged(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *subject, e traced.Engine) {
		d := s.debug()
		if e == traced.Inline {
			if text := trace(t, e, s.operand()).refused(); !strings.Contains(text, "process "+s.tracer()+" traces it") {
				t.Errorf("refused by %q", text)
			}
		} else {
			sc := s.attachedTo(e)
			s.do("work 1000")
			s.sawAll(sc, 1000)
		}
		s.do("work 100")
		d.leave()
		s.untouched()
	})
}

// sawAll ends a trace and fails the test unless it saw so many round trips.
func (s *subject) sawAll(sc *scope, trips int) {
	s.t.Helper()
	lines, sum := sc.end()
	whole(s.t, sum)
	if n := chain(s.t, lines, s.pid, s.ping); n < worked(trips) {
		s.t.Errorf("%d changes in %d round trips", n, trips)
	}
}

// TestDebuggerComes: a debugger comes while gopherscope traces, and goes.
func TestDebuggerComes(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *subject, e traced.Engine) {
		sc := s.attachedTo(e)
		s.do("work 500")
		d := s.debug()
		s.do("work 500")
		d.leave()
		s.do("work 500")
		s.sawAll(sc, 1500)
		s.untouched()
	})
}

// TestDebuggerStays: a debugger comes, and is still there when gopherscope wants to go. The
// inline engine needs ptrace for that; what it has to leave does no harm and can be removed
// later.
func TestDebuggerStays(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *subject, e traced.Engine) {
		sc := s.attachedTo(e)
		d := s.debug()
		s.do("work 1000")
		if e == traced.EBPF {
			s.sawAll(sc, 1000)
		} else {
			sc.Signal(os.Interrupt)
			text := sc.refused()
			if !strings.Contains(text, "left in the process") || !strings.Contains(text, "(dlv)") || !strings.Contains(sc.Stderr(), "gopherscope detach") {
				t.Errorf("it does not say what to do:\n%s", sc.Stderr())
			}
			if n := wholeLines(t, sc.path, s); n < worked(1000) {
				t.Errorf("%d changes", n)
			}
		}
		s.do("work 1000")
		d.leave()
		if e == traced.Inline {
			s.detach("removed what was left")
		}
		s.untouched()
	})
}

// TestPerf: perf samples the program while gopherscope traces it.
func TestPerf(t *testing.T) {
	perf, err := exec.LookPath("perf")
	if err != nil {
		testenv.Missing(t, "perf: "+err.Error())
	}
	eachEngine(t, func(t *testing.T, s *subject, e traced.Engine) {
		data := filepath.Join(t.TempDir(), "perf.data")
		p := testenv.Start(t, perf, "record", "-e", "cpu-clock", "-F", "999", "-g", "-p", s.operand(), "-o", data)
		waitFor(t, "perf to begin", func() bool { return opened(p.PID(), "anon_inode:[perf_event]") })
		s.do("pace 300ms")
		sc := s.attachedTo(e)
		s.do("work 3000")
		s.sawAll(sc, 3000)
		s.do("work 100")
		p.Signal(os.Interrupt)
		if err := p.Wait(); err != nil && !strings.Contains(p.Stderr(), "Captured and wrote") {
			t.Errorf("perf: %v\n%s", err, p.Stderr())
		}
		out, err := exec.Command(perf, "report", "--stdio", "-g", "none", "-i", data).Output()
		if err != nil || !strings.Contains(string(out), "runtime.") {
			t.Errorf("perf saw nothing of the program: %v", err)
		}
	})
}

// opened says whether a process has a descriptor of something.
func opened(pid int, what string) bool {
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	return slices.ContainsFunc(links, func(link string) bool {
		to, err := os.Readlink(link)
		return err == nil && to == what
	})
}

// counter is a uprobe of somebody else's, which counts.
type counter struct {
	t    testing.TB
	hits *ebpf.Map
	link link.Link
}

// probe attaches a counter to a function's entry.
func (s *subject) probe(function string) *counter {
	s.t.Helper()
	c := &counter{t: s.t}
	var err error
	if c.hits, err = ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1}); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.hits.Close() })
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.Kprobe, License: "MIT", Instructions: asm.Instructions{
		asm.Mov.Imm(asm.R0, 0),
		asm.StoreMem(asm.RFP, -4, asm.R0, asm.Word),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.LoadMapPtr(asm.R1, c.hits.FD()),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.Mov.Imm(asm.R1, 1),
		asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("out"),
		asm.Return(),
	}})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { prog.Close() })
	path := fmt.Sprintf("/proc/%d/exe", s.pid)
	bin, err := gobinary.Open(path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer bin.Close()
	fn, ok := bin.Func(function)
	if !ok {
		s.t.Fatalf("there is no %s", function)
	}
	off, ok := bin.FileOffset(fn.Entry)
	if !ok {
		s.t.Fatalf("%s is not in the file", function)
	}
	exe, err := link.OpenExecutable(path)
	if err != nil {
		s.t.Fatal(err)
	}
	if c.link, err = exe.Uprobe(function, prog, &link.UprobeOptions{Address: off, PID: s.pid}); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.link.Close() })
	return c
}

func (c *counter) count() (n uint64) {
	c.t.Helper()
	if err := c.hits.Lookup(uint32(0), &n); err != nil {
		c.t.Fatal(err)
	}
	return n
}

// TestProbed: somebody else's uprobe is on the function through which most changes go,
// before gopherscope comes, or comes later. Both see all.
func TestProbed(t *testing.T) {
	for name, first := range map[string]bool{"before": true, "later": false} {
		t.Run(name, func(t *testing.T) {
			eachEngine(t, func(t *testing.T, s *subject, e traced.Engine) {
				var c *counter
				if first {
					c = s.probe("runtime.casgstatus")
				}
				sc := s.attachedTo(e)
				if !first {
					c = s.probe("runtime.casgstatus")
				}
				s.do("work 1000")
				s.sawAll(sc, 1000)
				n := c.count()
				if n < uint64(worked(1000)) {
					t.Errorf("the other uprobe was hit %d times", n)
				}
				s.do("work 1000")
				if more := c.count() - n; more < uint64(worked(1000)) {
					t.Errorf("it was hit %d times after gopherscope had left", more)
				}
				if err := c.link.Close(); err != nil {
					t.Fatal(err)
				}
				s.untouched()
			})
		})
	}
}
