//go:build amd64

package inline

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gopherscope/internal/engine/probes"
	"gopherscope/internal/target"
	"gopherscope/internal/testenv"
)

// insn is an instruction as objdump says it.
type insn struct {
	at   uint64
	text string
}

// disassemble has objdump read code from its first byte on.
func disassemble(t *testing.T, code []byte, at uint64) []insn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "code")
	if err := os.WriteFile(path, code, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("objdump", "-D", "-b", "binary", "-m", "i386:x86-64", "-z", "--no-show-raw-insn", fmt.Sprintf("--adjust-vma=%#x", at), path)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", cmd, err)
	}
	var list []insn
	for line := range strings.Lines(string(out)) {
		addr, text, ok := strings.Cut(line, ":\t")
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(addr), 16, 64)
		if err != nil {
			t.Fatalf("objdump says %q", line)
		}
		list = append(list, insn{n, strings.Join(strings.Fields(text), " ")})
	}
	return list
}

// built is the code for a target, and what is known of it.
type built struct {
	t     *testing.T
	tgt   *target.Target
	sites []probes.Site
	sh    shape
	prog  *program
	insns []insn
}

func (b *built) end() uint64 { return b.prog.base + codeOffset + uint64(len(b.prog.code)) }

// eachBuilt makes the code for programs of every kind, without executing anything.
func eachBuilt(t *testing.T, f func(b *built)) {
	if _, err := exec.LookPath("objdump"); err != nil {
		testenv.Missing(t, "objdump: "+err.Error())
	}
	for i, how := range testenv.CrossSection() {
		for _, stacks := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/stacks=%v", how, stacks), func(t *testing.T) {
				tgt, err := target.OpenBinary(testenv.BuildTarget(t, "all", how))
				if err != nil {
					t.Fatal(err)
				}
				defer tgt.Close()
				if how.PIE {
					tgt.Bias = 0x5555_5555_4000
				}
				b := &built{t: t, tgt: tgt, sh: shape{rings: minRings << (i % 3), ringBytes: pageSize << i, stacks: stacks}}
				if b.sites, err = plan(tgt); err != nil {
					t.Fatal(err)
				}
				lo, hi := tgt.Bin.Text()
				base := (hi+tgt.Bias)&^(pageSize-1) + 64*pageSize
				if i%2 == 0 && lo+tgt.Bias > 1<<24 {
					base = (lo+tgt.Bias)&^(pageSize-1) - 64*pageSize
				}
				if b.prog, err = build(tgt, b.sites, base, b.sh); err != nil {
					t.Fatal(err)
				}
				b.insns = disassemble(t, b.prog.code, base+codeOffset)
				f(b)
			})
		}
	}
}

// TestSpans: each instruction lies in exactly one span, whole; what lies in none is never
// reached. In a template AX is in R13 from its first instruction on and stays there.
func TestSpans(t *testing.T) {
	used, ran := map[string]bool{}, 0
	eachBuilt(t, func(b *built) {
		ran++
		b.spansCover()
		b.jumpsStay()
		b.templatesSave()
		b.spansLead()
		for i := range b.sites {
			used[templateOf(&b.sites[i], b.sh.stacks)] = true
		}
	})
	if ran < 2*len(testenv.CrossSection()) {
		return // a toolchain is missing
	}
	ts, err := loadTemplates()
	if err != nil {
		t.Fatal(err)
	}
	for name := range ts {
		if !used[name] {
			t.Errorf("no binary needs the template %s", name)
		}
	}
}

// spansOf is the spans that an address lies in.
func (b *built) spansOf(pc uint64) []span {
	var found []span
	for _, s := range b.prog.spans {
		if pc >= s.lo && pc < s.hi {
			found = append(found, s)
		}
	}
	return found
}

func (b *built) spansCover() {
	starts := map[uint64]bool{b.end(): true}
	for _, in := range b.insns {
		starts[in.at] = true
	}
	for _, s := range b.prog.spans {
		if s.lo >= s.hi || !starts[s.lo] || !starts[s.hi] {
			b.t.Errorf("span %#x-%#x does not begin and end with an instruction", s.lo, s.hi)
		}
	}
	for _, in := range b.insns {
		n := len(b.spansOf(in.at))
		if padding := in.text == "int3"; padding && n != 0 || !padding && n != 1 {
			b.t.Errorf("%#x %s: in %d spans", in.at, in.text, n)
		}
		if strings.Contains(in.text, "(bad)") {
			b.t.Errorf("%#x is no instruction", in.at)
		}
	}
}

// jumpTarget is where an instruction may go to besides the next one; 0 if nowhere else.
func jumpTarget(in insn) uint64 {
	words := strings.Fields(in.text)
	if len(words) < 2 || words[0][0] != 'j' {
		return 0
	}
	to, err := strconv.ParseUint(strings.TrimPrefix(words[1], "0x"), 16, 64)
	if err != nil {
		return 0
	}
	return to
}

// jumpsStay: a jump stays in its span or goes to a place that is known; nothing is called.
func (b *built) jumpsStay() {
	lands := map[uint64]bool{} // where a span, or the program's own code, may be entered
	for _, s := range b.prog.spans {
		lands[s.lo], lands[s.to] = true, true
	}
	for _, in := range b.insns {
		op := strings.Fields(in.text)[0]
		copied := b.copied(in.at)
		if strings.HasPrefix(op, "call") || strings.HasPrefix(op, "ret") || !copied && (strings.HasPrefix(op, "push") || strings.HasPrefix(op, "pop")) || op == "syscall" {
			b.t.Errorf("%#x: %s", in.at, in.text)
		}
		if op[0] != 'j' {
			continue
		}
		to := jumpTarget(in)
		of := b.spansOf(in.at)
		if len(of) != 1 || to == 0 {
			b.t.Errorf("%#x: %s", in.at, in.text)
			continue
		}
		if inside := to >= of[0].lo && to < of[0].hi; !inside && !lands[to] {
			b.t.Errorf("%#x: %s goes to an unknown place", in.at, in.text)
		} else if inside && !slices.ContainsFunc(b.insns, func(x insn) bool { return x.at == to }) {
			b.t.Errorf("%#x: %s goes into an instruction", in.at, in.text)
		}
	}
}

// copied says whether an address is in a copy of the program's own instructions.
func (b *built) copied(pc uint64) bool {
	return slices.ContainsFunc(b.prog.hooks, func(h hook) bool {
		return h.window != nil && pc >= h.tail && pc < h.tail+uint64(len(h.orig))
	})
}

// templatesSave: AX goes to R13 first and R13 is not written after.
func (b *built) templatesSave() {
	n := 0
	for _, s := range b.prog.spans {
		if !s.saved {
			continue
		}
		n++
		for _, in := range b.insns {
			if in.at < s.lo || in.at >= s.hi {
				continue
			}
			if first := in.at == s.lo; first != (in.text == "mov %rax,%r13") || !first && strings.HasSuffix(in.text, "%r13") {
				b.t.Errorf("%#x: %s in a template that begins at %#x", in.at, in.text, s.lo)
			}
		}
	}
	if n == 0 {
		b.t.Error("no template")
	}
}

// entryOf is where the stub of a hook goes to, after its cookie.
func (b *built) entryOf(i int, stub uint64) uint64 {
	k := slices.IndexFunc(b.insns, func(x insn) bool { return x.at == stub })
	if k < 0 || k+1 == len(b.insns) {
		b.t.Fatalf("hook %d: no instruction at its stub, %#x", i, stub)
	}
	s := &b.sites[i]
	want := fmt.Sprintf("mov $%#x,%%edx", i|int(s.From)<<8|int(s.To)<<16|int(s.Flags)<<24)
	if b.insns[k].text != want || !strings.HasPrefix(b.insns[k+1].text, "jmp ") {
		b.t.Errorf("hook %d: its stub is %q, %q; want %q", i, b.insns[k].text, b.insns[k+1].text, want)
	}
	return jumpTarget(b.insns[k+1])
}

// spansLead: the text leads to the stub, the stub to the template, that to the function
// or the copy, and every span to where the program would be without us.
func (b *built) spansLead() {
	if len(b.prog.hooks) != len(b.sites) {
		b.t.Fatalf("%d hooks for %d sites", len(b.prog.hooks), len(b.sites))
	}
	for i := range b.prog.hooks {
		h, s := &b.prog.hooks[i], &b.sites[i]
		next := h.addr + 5
		stub := next + uint64(int64(int32(binary.LittleEndian.Uint32(h.patch[h.addr+5-4-h.at:]))))
		entry := b.entryOf(i, stub)
		leave := h.addr
		if h.window == nil {
			fn, ok := b.tgt.Bin.Func(s.Callee)
			if !ok || h.at != h.addr+1 || len(h.patch) != 4 || len(h.orig) != 4 || h.addr != s.PC+b.tgt.Bias {
				b.t.Errorf("hook %d of %s: at %#x % x for % x", i, s.Func, h.at, h.patch, h.orig)
			}
			leave = fn.Entry + b.tgt.Bias
			if call := int64(int32(binary.LittleEndian.Uint32(h.orig))); next+uint64(call) != leave {
				b.t.Errorf("hook %d of %s: the original call goes to %#x", i, s.Func, next+uint64(call))
			}
		} else {
			b.window(i, h)
		}
		for _, pc := range []uint64{stub, entry} {
			if of := b.spansOf(pc); len(of) != 1 || of[0].lo != pc || of[0].to != leave || of[0].saved != (pc == entry) {
				b.t.Errorf("hook %d of %s: %#x is in %+v; want to leave to %#x", i, s.Func, pc, of, leave)
			}
		}
		exit := leave
		if h.window != nil {
			exit = h.tail
		}
		b.ends(i, entry, exit)
	}
}

// ends: all jumps out of a template go to one place.
func (b *built) ends(i int, entry, exit uint64) {
	of, n := b.spansOf(entry), 0
	if len(of) != 1 {
		return // said already
	}
	for _, in := range b.insns {
		if to := jumpTarget(in); in.at >= of[0].lo && in.at < of[0].hi && to != 0 && (to < of[0].lo || to >= of[0].hi) {
			if n++; to != exit {
				b.t.Errorf("hook %d: %#x %s, want to %#x", i, in.at, in.text, exit)
			}
		}
	}
	if n == 0 {
		b.t.Errorf("hook %d: its template has no end", i)
	}
}

// window: the jmp covers whole instructions, and each of them, copied, leads back to
// itself.
func (b *built) window(i int, h *hook) {
	file, err := b.tgt.Bin.CodeAt(h.window.PC, len(h.orig))
	if err != nil || !bytes.Equal(file, h.orig) || h.at != h.addr || h.addr != h.window.PC+b.tgt.Bias {
		b.t.Fatalf("hook %d: % x at %#x, the file has % x, %v", i, h.orig, h.at, file, err)
	}
	if h.patch[0] != 0xe9 || len(h.patch) != len(h.orig) || len(bytes.TrimLeft(h.patch[5:], "\xcc")) > 0 {
		b.t.Errorf("hook %d: patch % x", i, h.patch)
	}
	orig := disassemble(b.t, h.orig, h.addr)
	for _, in := range append(orig, insn{at: h.addr + uint64(len(h.orig))}) {
		pc := h.tail + in.at - h.addr
		of := b.spansOf(pc)
		if len(of) != 1 || of[0].lo != pc || of[0].to != in.at || of[0].saved {
			b.t.Errorf("hook %d: %s, copied to %#x, is in %+v", i, in.text, pc, of)
		}
		k := slices.IndexFunc(b.insns, func(x insn) bool { return x.at == pc })
		switch {
		case k < 0:
			b.t.Errorf("hook %d: no instruction at %#x", i, pc)
		case in.text == "" && jumpTarget(b.insns[k]) != in.at:
			b.t.Errorf("hook %d: %s after the copy, want to %#x", i, b.insns[k].text, in.at)
		case in.text != "" && meaning(in.text) != meaning(b.insns[k].text):
			b.t.Errorf("hook %d: %q was copied as %q", i, in.text, b.insns[k].text)
		}
	}
}

// meaning is an instruction without its distance to what it refers to, which objdump adds
// as an address.
func meaning(text string) string {
	before, addr, relative := strings.Cut(text, "(%rip)")
	if !relative {
		return text
	}
	return before[:strings.LastIndexAny(before, " ,")+1] + addr
}
