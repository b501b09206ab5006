package inline

import (
	"bytes"
	"debug/elf"
	_ "embed" // probe_amd64.o
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
)

// probeObject is asm/probe_amd64.S, assembled.
//
//go:embed probe_amd64.o
var probeObject []byte

// errLink is a value that does not fit its place in the code, or an object that is
// not what clang makes of asm/probe_amd64.S.
var errLink = errors.New("internal error: link the probes")

// templates are the sections of asm/probe_amd64.S, by the name after ".text.".
type templates map[string]template

// template is code with places that depend on the target.
type template struct {
	code   []byte
	relocs []reloc
}

// reloc is one such place: what to put where, as the ELF type says.
type reloc struct {
	off    int
	typ    elf.R_X86_64
	symbol string
	addend int64
}

// symbols are the values of the names without a definition in asm/probe_amd64.S.
type symbols map[string]int64

// loadTemplates reads the embedded object.
func loadTemplates() (templates, error) {
	f, err := elf.NewFile(bytes.NewReader(probeObject))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errLink, err)
	}
	defer f.Close()
	names, err := f.Symbols()
	if err != nil {
		return nil, fmt.Errorf("%w: symbols: %w", errLink, err)
	}
	ts := templates{}
	for _, s := range f.Sections {
		name, ok := strings.CutPrefix(s.Name, ".text.")
		if !ok || s.Type != elf.SHT_PROGBITS {
			continue
		}
		t := template{}
		if t.code, err = s.Data(); err != nil {
			return nil, fmt.Errorf("%w: %w", errLink, err)
		}
		if rela := f.Section(".rela" + s.Name); rela != nil {
			if t.relocs, err = readRelocs(rela, names, len(t.code)); err != nil {
				return nil, err
			}
		}
		ts[name] = t
	}
	return ts, nil
}

// readRelocs reads a section of struct Elf64_Rela.
func readRelocs(s *elf.Section, names []elf.Symbol, size int) ([]reloc, error) {
	data, err := s.Data()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errLink, err)
	}
	raw := make([]elf.Rela64, len(data)/binary.Size(elf.Rela64{}))
	if err := binary.Read(bytes.NewReader(data), binary.LittleEndian, raw); err != nil {
		return nil, fmt.Errorf("%w: %w", errLink, err)
	}
	relocs := make([]reloc, len(raw))
	for i, r := range raw {
		sym := int(elf.R_SYM64(r.Info))
		if sym == 0 || sym > len(names) || names[sym-1].Section != elf.SHN_UNDEF || r.Off > uint64(size-4) {
			return nil, fmt.Errorf("%w: relocation %d of %s", errLink, i, s.Name)
		}
		relocs[i] = reloc{off: int(r.Off), typ: elf.R_X86_64(elf.R_TYPE64(r.Info)), symbol: names[sym-1].Name, addend: r.Addend}
	}
	return relocs, nil
}

// link is the template's code as it must be at the address at.
func (t *template) link(at uint64, syms symbols) ([]byte, error) {
	code := bytes.Clone(t.code)
	for _, r := range t.relocs {
		v, ok := syms[r.symbol]
		if !ok {
			return nil, fmt.Errorf("%w: no value for %s", errLink, r.symbol)
		}
		v += r.addend
		low, high := int64(math.MinInt32), int64(math.MaxInt32)
		switch r.typ {
		case elf.R_X86_64_PC32, elf.R_X86_64_PLT32:
			v -= int64(at) + int64(r.off)
		case elf.R_X86_64_32S:
		case elf.R_X86_64_32:
			low, high = 0, math.MaxUint32
		default:
			return nil, fmt.Errorf("%w: relocation type %v", errLink, r.typ)
		}
		if v < low || v > high {
			return nil, fmt.Errorf("%w: %s is out of reach", errLink, r.symbol)
		}
		binary.LittleEndian.PutUint32(code[r.off:], uint32(v))
	}
	return code, nil
}
