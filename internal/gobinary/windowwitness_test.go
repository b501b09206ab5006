package gobinary

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"gopherscope/internal/testenv"
)

// A gnuInsn is an instruction as objdump of GNU binutils shows it. That is a
// disassembler other than the package's own, and it needs no symbols.
type gnuInsn struct {
	pc   uint64
	code []byte
	// text is the instruction in AT&T syntax. What lies at a distance from the
	// instruction is an address in brackets: "cmpl $0x0,[0x5cd980]".
	text string
	to   uint64 // where a direct branch or call goes, 0 for other instructions
}

// A listing is what objdump shows of some code, with the index of each address.
type listing struct {
	insns []gnuInsn
	at    map[uint64]int
	// goals are the targets of all direct branches and calls in it.
	goals map[uint64]bool
}

// gnuList disassembles the code of a file from lo to hi.
func gnuList(t testing.TB, path string, lo, hi uint64) *listing {
	t.Helper()
	return gnuRun(t, "-d", fmt.Sprintf("--start-address=%#x", lo), fmt.Sprintf("--stop-address=%#x", hi), path)
}

// gnuListBytes disassembles code that lies at an address.
func gnuListBytes(t testing.TB, code []byte, at uint64) *listing {
	t.Helper()
	path := filepath.Join(t.TempDir(), "code")
	if err := os.WriteFile(path, code, 0o600); err != nil {
		t.Fatal(err)
	}
	return gnuRun(t, "-D", "-b", "binary", "-m", "i386:x86-64", fmt.Sprintf("--adjust-vma=%#x", at), path)
}

// ripOperand is an operand at a distance from the instruction, and the comment
// that has its address; symbolNames are the names that objdump adds to addresses.
var (
	ripOperand  = regexp.MustCompile(`^(.*?)(?:-?0x[0-9a-f]+|0)\(%rip\)(.*?)\s+# (?:0x)?([0-9a-f]+)$`)
	symbolNames = regexp.MustCompile(`\s*<[^>]*>`)
	gnuBranch   = regexp.MustCompile(`^(?:\S+ )*?(?:j[a-z,]+|loop[a-z]*|xbegin|callq?) +(?:0x)?([0-9a-f]+)$`)
)

func gnuRun(t testing.TB, args ...string) *listing {
	t.Helper()
	if _, err := exec.LookPath("objdump"); err != nil {
		testenv.Missing(t, "objdump of binutils: "+err.Error())
	}
	out, err := exec.Command("objdump", append([]string{"-w", "-z"}, args...)...).Output()
	if err != nil {
		t.Fatalf("objdump %v: %v", args, err)
	}
	l := &listing{at: map[uint64]int{}, goals: map[uint64]bool{}}
	scanner := bufio.NewScanner(bytes.NewReader(out))
	for scanner.Scan() {
		cols := strings.SplitN(scanner.Text(), "\t", 3)
		if len(cols) < 3 {
			continue
		}
		pc, err1 := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(cols[0]), ":"), 16, 64)
		code, err2 := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(cols[1]), " ", ""))
		if err1 != nil || err2 != nil {
			t.Fatalf("objdump: %q", scanner.Text())
		}
		in := gnuInsn{pc: pc, code: code, text: strings.TrimSpace(symbolNames.ReplaceAllString(cols[2], ""))}
		if m := ripOperand.FindStringSubmatch(in.text); m != nil {
			in.text = m[1] + "[0x" + m[3] + "]" + m[2]
		}
		if m := gnuBranch.FindStringSubmatch(in.text); m != nil {
			if in.to, err = strconv.ParseUint(m[1], 16, 64); err != nil {
				t.Fatalf("objdump: %q", scanner.Text())
			}
			l.goals[in.to] = true
		}
		l.at[pc] = len(l.insns)
		l.insns = append(l.insns, in)
	}
	if len(l.insns) == 0 {
		t.Fatalf("objdump %v shows nothing", args)
	}
	return l
}

// movable are the instructions that may be in a window, and unmovable what none
// may have: a segment, prefixes that objdump names. None may write the registers of
// the frame.
var (
	movable    = regexp.MustCompile(`^(mov|movz[bw][lqw]|movs[blw][lqw]|movslq|movabs|lea|cmp|test|add|sub|inc|dec|and|or|xor|nop)[bwlq]?\b|^xchg +%ax,%ax$`) // the last is a NOP
	movesFrame = regexp.MustCompile(`^(inc|dec)[a-z]* +%[re]?[sb]pl?$|,%[re]?[sb]pl?$`)
	unmovable  = regexp.MustCompile(`%[cdefgs]s\b|%[cd]r\d|^(lock|rep|repz|repnz|data16|cs|ds|addr32|notrack|bnd)\b|\(%eip\)`)
	farJump    = regexp.MustCompile(`^(\S+ )*l?jmp[a-z]* +\*`)
)

// check compares a window of a function with the listing, which has that function
// at least: all that must hold for a JMP to be written there.
func (l *listing) check(w Window, fn Func) error {
	end := w.PC + uint64(len(w.Orig))
	if w.PC < fn.Entry || end > fn.End || len(w.Insns) == 0 || len(w.Orig) < 5 {
		return fmt.Errorf("window %#x-%#x, %d instructions, function %#x-%#x", w.PC, end, len(w.Insns), fn.Entry, fn.End)
	}
	if last := w.Insns[len(w.Insns)-1]; last.Off >= 5 || last.Off+last.Len != len(w.Orig) {
		return fmt.Errorf("window of %d bytes ends with %+v", len(w.Orig), last)
	}
	next := 0
	for _, in := range w.Insns {
		i, ok := l.at[w.PC+uint64(in.Off)]
		if !ok || in.Off != next {
			return fmt.Errorf("no instruction at +%d, the one before ends at %d", in.Off, next)
		}
		next = in.Off + in.Len
		g := l.insns[i]
		if next > len(w.Orig) || !bytes.Equal(g.code, w.Orig[in.Off:next]) {
			return fmt.Errorf("+%d: % x, objdump: % x %s", in.Off, w.Orig[in.Off:min(next, len(w.Orig))], g.code, g.text)
		}
		if !movable.MatchString(g.text) || unmovable.MatchString(g.text) || g.to != 0 ||
			movesFrame.MatchString(g.text) && !strings.HasPrefix(g.text, "cmp") && !strings.HasPrefix(g.text, "test") {
			return fmt.Errorf("+%d: not to be moved: %s", in.Off, g.text)
		}
		if err := g.checkDisp(w, in); err != nil {
			return err
		}
	}
	for pc := w.PC; pc < end; pc++ {
		if l.goals[pc] {
			return fmt.Errorf("%#x is the target of a branch", pc)
		}
	}
	for i := l.at[fn.Entry]; i < len(l.insns) && l.insns[i].pc < fn.End; i++ {
		if farJump.MatchString(l.insns[i].text) {
			return fmt.Errorf("the function has %s", l.insns[i].text)
		}
	}
	return nil
}

// checkDisp checks where in an instruction the displacement is said to be.
func (g *gnuInsn) checkDisp(w Window, in WindowInsn) error {
	_, operand, relative := strings.Cut(g.text, "[")
	if !relative {
		if in.RIPDisp != -1 {
			return fmt.Errorf("+%d: displacement at %d of %s", in.Off, in.RIPDisp, g.text)
		}
		return nil
	}
	if in.RIPDisp < in.Off || in.RIPDisp+4 > in.Off+in.Len {
		return fmt.Errorf("+%d: displacement at %d of %s", in.Off, in.RIPDisp, g.text)
	}
	operand, _, _ = strings.Cut(operand, "]")
	want, err := strconv.ParseUint(operand, 0, 64)
	if got := w.ripTarget(in); err != nil || got != want {
		return fmt.Errorf("+%d: refers to %#x: %s", in.Off, got, g.text)
	}
	return nil
}

// ripTarget is the address that an instruction of a window refers to by the
// displacement in it.
func (w *Window) ripTarget(in WindowInsn) uint64 {
	d := w.Orig[in.RIPDisp : in.RIPDisp+4]
	disp := int32(uint32(d[0]) | uint32(d[1])<<8 | uint32(d[2])<<16 | uint32(d[3])<<24)
	return w.PC + uint64(in.Off+in.Len) + uint64(int64(disp))
}

// before is the text of the instructions of fn up to pc, one a line.
func (l *listing) before(fn Func, pc uint64) string {
	var lines strings.Builder
	for i, ok := l.at[fn.Entry]; ok && i < len(l.insns) && l.insns[i].pc < pc; i++ {
		lines.WriteString(strings.Join(strings.Fields(l.insns[i].text), " ") + "\n")
	}
	return lines.String()
}

// wholePrologue is all that a compiled function does before its body, in AT&T
// syntax: a stack check if it has one, and then the frame.
var wholePrologue = regexp.MustCompile(`^(` +
	`cmp 0x1[08]\(%r14\),%rsp\njbe (0x)?[0-9a-f]+\n|` +
	`lea -0x[0-9a-f]+\(%rsp\),%r12\ncmp 0x1[08]\(%r14\),%r12\njbe (0x)?[0-9a-f]+\n)?(` +
	`push %rbp\nmov %rsp,%rbp\n((sub|add) \$0x[0-9a-f]+,%rsp\n)?|` + // Go 1.21
	`(sub|add) \$0x[0-9a-f]+,%rsp\nmov %rbp,(0x[0-9a-f]+)?\(%rsp\)\nlea (0x[0-9a-f]+|0x0)?\(%rsp\),%rbp\n)$`)
