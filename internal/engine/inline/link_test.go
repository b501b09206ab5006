package inline

import (
	"debug/elf"
	"errors"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gopherscope/internal/engine/probes"
	"gopherscope/internal/goruntime"
	"gopherscope/internal/target"
)

// probeSources are what clang makes probe_amd64.o of.
var probeSources = []string{"asm/probe_amd64.S", "asm/record_amd64.h", "asm/stack_amd64.h"}

// defines reads the numbers that the sources give names to.
func defines(t *testing.T) map[string]int64 {
	t.Helper()
	var text []byte
	for _, path := range probeSources {
		part, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, part...)
	}
	line := regexp.MustCompile(`(?m)^#define\s+(\w+)\s+\(?(-?\w+)\)?\s*(?://.*)?$`)
	found := map[string]int64{}
	for _, m := range line.FindAllStringSubmatch(string(text), -1) {
		n, err := strconv.ParseInt(m[2], 0, 64)
		if err != nil {
			t.Fatalf("%s: %v", m[0], err)
		}
		found[m[1]] = n
	}
	if n := strings.Count("\n"+string(text), "\n#define"); n != len(found) {
		t.Fatalf("%d of %d numbers understood: %v", len(found), n, found)
	}
	return found
}

// TestNumbers compares the numbers of the assembly with those of the reader. A number
// that is new there must come here, too.
func TestNumbers(t *testing.T) {
	want := map[string]int64{
		"OWNER": ownerOffset, "HEAD": headOffset, "LOST": lostOffset, "DATA": dataOffset, "BASE": baseOffset, "TAIL": tailOffset,
		"NO_RING": noRingOffset - pageSize, // from the first header, which is at the second page
		"G_IDLE":  int64(goruntime.Idle), "G_RUNNABLE": int64(goruntime.Runnable), "G_RUNNING": int64(goruntime.Running),
		"G_WAITING": int64(goruntime.Waiting), "G_DEAD": int64(goruntime.Dead), "STATUS": 15,
		"FLAG_WAKER": int64(probes.Waker) << 24, "DEPTH": maxDepth,
		// The places in a record, which the methods of raw know: TestRawFields.
		"R_TSC": 0, "R_GOID": 8, "R_OTHER": 16, "R_TID": 24, "R_WHERE": 28, "R_GOPC": 0, "R_STARTPC": 8,
		// The reader looks for a ring by its place alone, and never at frames.
		"TRIES": 16, "BELOW_GO": 4,
	}
	have := defines(t)
	for _, shift := range []struct {
		name string
		size int64
	}{{"HEADER_SHIFT", headerBytes}, {"RECORD_SHIFT", recordBytes}} {
		if n, ok := have[shift.name]; !ok || 1<<n != shift.size {
			t.Errorf("%s is %d, the size is %d", shift.name, n, shift.size)
		}
		delete(have, shift.name)
	}
	for name, v := range want {
		if n, ok := have[name]; !ok || n != v {
			t.Errorf("%s is %d in the assembly, %v; here %d", name, n, ok, v)
		}
		delete(have, name)
	}
	if len(have) > 0 {
		t.Errorf("not compared: %v", have)
	}
	if goruntime.DeadExtra > 15 {
		t.Error("a status has more than four bits")
	}
}

// TestRawFields: the reader finds each field where the assembly stores it.
func TestRawFields(t *testing.T) {
	w := raw{0x0123456789abcdef, 0x00c0ffee00c0ff<<8 | 0x21, 0xfeedfacecafebeef, 0xfffe<<48 | 0x4<<44 | 0x2<<40 | 0x7f<<32 | 0xdeadbeef}
	site, from, to := w.what()
	if site != 0x7f || from != 2 || to != 4 || w.goid() != 0x00c0ffee00c0ff || w.reason() != 0x21 ||
		w.other() != 0xfeedfacecafebeef || w.tid() != 0xdeadbeef || w.p() != -2 {
		t.Errorf("%x: %x %d %d %x %x %x %x %d", w, site, from, to, w.goid(), w.reason(), w.other(), w.tid(), w.p())
	}
}

// placed are the names that code.go gives a value beside layoutSymbols.
var placed = []string{"CONTROL", "SPARE", "EXIT", "RING_MASK", "HEADERS_SIZE", "CAPACITY", "SLOT_MASK", "RING_BYTES_MASK"}

// TestNames: the templates refer to nothing that has no value, and no value is for nothing.
func TestNames(t *testing.T) {
	ts, err := loadTemplates()
	if err != nil {
		t.Fatal(err)
	}
	have := layoutSymbols(&target.Layout{})
	for _, name := range placed {
		have[name] = 0
	}
	used := map[string]bool{}
	for section, tpl := range ts {
		if len(tpl.code) == 0 || len(tpl.relocs) == 0 {
			t.Errorf("%s: %d bytes, %d places", section, len(tpl.code), len(tpl.relocs))
		}
		for _, r := range tpl.relocs {
			used[r.symbol] = true
			if _, ok := have[r.symbol]; !ok {
				t.Errorf("%s refers to %s, which gets no value", section, r.symbol)
			}
			if !slices.Contains([]elf.R_X86_64{elf.R_X86_64_PC32, elf.R_X86_64_PLT32, elf.R_X86_64_32, elf.R_X86_64_32S}, r.typ) {
				t.Errorf("%s refers to %s by a %v", section, r.symbol, r.typ)
			}
		}
	}
	for name := range have {
		if !used[name] {
			t.Errorf("no template refers to %s", name)
		}
	}
	want := []string{"birth0", "birth1", "birthat0", "birthat1", "block", "cas", "casborn", "enter", "entersys", "park", "self0", "selfg", "switch"}
	if got := sortedKeys(ts); !slices.Equal(got, want) {
		t.Errorf("templates %v, want %v", got, want)
	}
}

func sortedKeys(ts templates) []string {
	var names []string
	for name := range ts {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// TestNoFields: what a Go version lacks has the offset 0, and the parent is looked for
// another way.
func TestNoFields(t *testing.T) {
	l := target.Layout{G: target.GLayout{M: 48, ParentGoID: target.NoField, CoroArg: target.NoField, CoroExit: target.NoField}, Coro: target.CoroLayout{G: target.NoField}}
	syms := layoutSymbols(&l)
	for name, want := range map[string]int64{"HAVE_PARENT": 0, "G_PARENT": 0, "G_COROARG": 0, "G_COROEXIT": 0, "CORO_GP": 0, "G_M": 48} {
		if got, ok := syms[name]; !ok || got != want {
			t.Errorf("%s is %d, %v; want %d", name, got, ok, want)
		}
	}
	l.G.ParentGoID = 88
	if syms = layoutSymbols(&l); syms["HAVE_PARENT"] != 1 || syms["G_PARENT"] != 88 {
		t.Errorf("with a parent: %v", syms)
	}
}

// TestLinkBounds: a value goes into the code up to the last one that fits.
func TestLinkBounds(t *testing.T) {
	const at, off = 0x40_0000_0000, 3
	for _, test := range []struct {
		typ    elf.R_X86_64
		addend int64
		value  int64
		want   []byte // nil where it does not fit
	}{
		{elf.R_X86_64_32, 0, 0, []byte{0, 0, 0, 0}},
		{elf.R_X86_64_32, 0, math.MaxUint32, []byte{255, 255, 255, 255}},
		{elf.R_X86_64_32, 0, math.MaxUint32 + 1, nil},
		{elf.R_X86_64_32, 0, -1, nil},
		{elf.R_X86_64_32, 1, math.MaxUint32, nil},
		{elf.R_X86_64_32S, 0, math.MaxInt32, []byte{255, 255, 255, 127}},
		{elf.R_X86_64_32S, 0, math.MaxInt32 + 1, nil},
		{elf.R_X86_64_32S, 0, math.MinInt32, []byte{0, 0, 0, 128}},
		{elf.R_X86_64_32S, 0, math.MinInt32 - 1, nil},
		{elf.R_X86_64_PC32, -4, at + off + 4, []byte{0, 0, 0, 0}},
		{elf.R_X86_64_PC32, -4, at + off + 4 + 0x123456, []byte{0x56, 0x34, 0x12, 0}},
		{elf.R_X86_64_PC32, -4, at + off + 4 + math.MaxInt32, []byte{255, 255, 255, 127}},
		{elf.R_X86_64_PC32, -4, at + off + 4 + math.MaxInt32 + 1, nil},
		{elf.R_X86_64_PC32, -4, at + off + 4 + math.MinInt32, []byte{0, 0, 0, 128}},
		{elf.R_X86_64_PLT32, -4, at + off + 4 + math.MinInt32 - 1, nil},
		{elf.R_X86_64_PLT32, -4, at + off + 4 - 2, []byte{254, 255, 255, 255}},
		{elf.R_X86_64_64, 0, 1, nil},
		{elf.R_X86_64_GOTPCREL, 0, 1, nil},
	} {
		tpl := template{code: []byte{1, 2, 3, 0, 0, 0, 0, 4}, relocs: []reloc{{off: off, typ: test.typ, symbol: "X", addend: test.addend}}}
		got, err := tpl.link(at, symbols{"X": test.value})
		switch {
		case test.want == nil && !errors.Is(err, errLink):
			t.Errorf("%v of %#x%+d: % x, %v", test.typ, test.value, test.addend, got, err)
		case test.want != nil && (err != nil || string(got) != string(append(append([]byte{1, 2, 3}, test.want...), 4))):
			t.Errorf("%v of %#x%+d: % x, %v; want % x", test.typ, test.value, test.addend, got, err, test.want)
		}
		if string(tpl.code) != "\x01\x02\x03\x00\x00\x00\x00\x04" {
			t.Fatalf("linking changed the template: % x", tpl.code)
		}
	}
}

// TestLinkUnknown: no template can be linked when one of its values is missing.
func TestLinkUnknown(t *testing.T) {
	ts, err := loadTemplates()
	if err != nil {
		t.Fatal(err)
	}
	const at = 0x40_0000
	for section, tpl := range ts {
		syms := layoutSymbols(&target.Layout{})
		for _, name := range placed {
			syms[name] = at
		}
		if _, err := tpl.link(at, syms); err != nil {
			t.Errorf("%s: %v", section, err)
		}
		for _, r := range tpl.relocs {
			v := syms[r.symbol]
			delete(syms, r.symbol)
			if _, err := tpl.link(at, syms); !errors.Is(err, errLink) || !strings.Contains(err.Error(), r.symbol) {
				t.Errorf("%s without %s: %v", section, r.symbol, err)
			}
			syms[r.symbol] = v
		}
		syms["EXIT"] = at + 4<<30
		if _, err := tpl.link(at, syms); !errors.Is(err, errLink) {
			t.Errorf("%s: ends out of reach: %v", section, err)
		}
	}
}
