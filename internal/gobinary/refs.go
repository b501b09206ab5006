package gobinary

import "fmt"

// A ref is one use of a fixed address by an instruction of a function: what
// the disassembly readers look for in place of symbols.
type ref struct {
	pc    uint64 // the instruction that refers (on arm64 the last one of the pair)
	addr  uint64 // the address it refers to, as linked
	kind  refKind
	width int // bytes moved by a load or store, 0 when it moves none or it is not known
}

// refKind says what the instruction does with the address.
type refKind uint8

const (
	refOther refKind = iota // compares, exchanges, adds to memory…
	refLEA                  // takes the address
	refLoad                 // reads memory into a register
	refStore                // writes a register or a constant to memory
	refCall                 // calls it directly
)

// maxCode bounds how much of one function is disassembled. The runtime's
// largest function is some 10 kB; only a corrupt table asks for more than this.
const maxCode = 1 << 20

// code returns the machine code of fn, at most maxCode bytes of it. The bytes
// may be shared and must not be changed.
func (f *File) code(fn Func) ([]byte, error) {
	if fn.End < fn.Entry || fn.End-fn.Entry > maxCode {
		return nil, fmt.Errorf("code of %s: bad range %#x-%#x", fn.Name, fn.Entry, fn.End)
	}
	b, err := f.bytes(fn.Entry, int(fn.End-fn.Entry))
	if err != nil {
		return nil, fmt.Errorf("code of %s: %w", fn.Name, err)
	}
	return b, nil
}

// refs lists the fixed addresses that fn's instructions refer to, in code
// order. A function that cannot be read has none. References that are made in
// a way the readers do not follow (through a table, a copied register, an
// instruction with a VEX prefix) are missing; one that is listed is real.
func (f *File) refs(fn Func) []ref {
	code, err := f.code(fn)
	if err != nil {
		return nil
	}
	if f.Arch() == ARM64 {
		return armRefs(code, fn.Entry)
	}
	return x86Refs(code, fn.Entry)
}
