package inline

import (
	"encoding/binary"
	"fmt"
	"math"

	"gopherscope/internal/engine/probes"
	"gopherscope/internal/gobinary"
	"gopherscope/internal/target"
)

// The mapping that holds the code, in pages: the manifest, the code, and the control
// word. Only the control page is writable for the target, and it is empty in a
// process that it forks (MADV_WIPEONFORK): there the code runs and records
// nothing.
const (
	pageSize      = 4096
	manifestPages = 4
	codePages     = 8
	controlPages  = 1

	codeOffset    = manifestPages * pageSize
	controlOffset = codeOffset + codePages*pageSize
	codeBytes     = controlOffset + controlPages*pageSize
)

// align is that of stubs and templates.
const align = 16

// hook is one site as it is hooked.
type hook struct {
	at    uint64 // address of the first byte that changes, in the process
	orig  []byte // the bytes there, as in the file
	patch []byte // and as they are while the site is hooked

	window *gobinary.Window // nil where a call is retargeted
	addr   uint64           // of the site's first instruction
	tail   uint64           // the copy of the window's instructions
}

// span is a part of the code in which a thread can be, and how to move it to where
// it would go on without us.
type span struct {
	lo, hi uint64
	to     uint64 // where to go on
	saved  bool   // AX is in R13 after the first instruction
}

// program is all code for one target, and how to hook it in.
type program struct {
	base  uint64 // address of the mapping
	code  []byte // from base+codeOffset on
	hooks []hook
	spans []span
}

// templateOf names the section of asm/probe_amd64.S that a site needs.
func templateOf(s *probes.Site, stacks bool) string {
	walk := walkNone
	if stacks {
		walk = walkOf(s)
	}
	switch {
	case walk == walkPark:
		return "park"
	case walk == walkEnter:
		return "enter"
	case walk == walkSys:
		return "entersys"
	case walk == walkBlock:
		return "block"
	case walk == walkParent && s.Prog == probes.OnCas:
		return "casborn"
	case walk == walkParent && s.Flags&probes.GInArg1 != 0:
		return "birthat1"
	case walk == walkParent:
		return "birthat0"
	case s.Prog == probes.OnCas:
		return "cas"
	case s.Prog == probes.OnBirth && s.Flags&probes.GInArg1 != 0:
		return "birth1"
	case s.Prog == probes.OnBirth:
		return "birth0"
	case s.Prog == probes.OnSwitch:
		return "switch"
	case s.Flags&probes.GInArg0 != 0:
		return "self0"
	}
	return "selfg"
}

// builder lays the code out.
type builder struct {
	program
	shape     shape
	bin       *gobinary.File
	bias      uint64
	templates templates
	symbols   symbols
	bodies    map[body]uint64 // address of a linked template
}

// body is a template that ends in one place.
type body struct {
	template string
	exit     uint64
}

// shape is what the code depends on besides the target.
type shape struct {
	rings     int // a power of two
	ringBytes int // of each, likewise
	stacks    bool
}

// build makes the code for a mapping at base.
func build(t *target.Target, sites []probes.Site, base uint64, sh shape) (*program, error) {
	ts, err := loadTemplates()
	if err != nil {
		return nil, err
	}
	b := &builder{
		program: program{base: base}, shape: sh, bin: t.Bin, bias: t.Bias, templates: ts,
		symbols: layoutSymbols(&t.Layout), bodies: map[body]uint64{},
	}
	b.symbols["CONTROL"] = int64(base + controlOffset)
	b.symbols["SPARE"] = int64(base + controlOffset + spareOffset)
	b.symbols["RING_MASK"] = int64(sh.rings - 1)
	b.symbols["HEADERS_SIZE"] = int64(sh.rings * headerBytes)
	b.symbols["CAPACITY"] = int64(sh.ringBytes / recordBytes)
	b.symbols["SLOT_MASK"] = int64(sh.ringBytes/recordBytes - 1)
	b.symbols["RING_BYTES_MASK"] = int64(sh.ringBytes - 1)
	for i := range sites {
		if err := b.hook(uint8(i), &sites[i]); err != nil {
			return nil, fmt.Errorf("probe site in %s: %w", sites[i].Func, err)
		}
	}
	if len(b.code) > codePages*pageSize {
		return nil, fmt.Errorf("internal error: %d bytes of code, room for %d", len(b.code), codePages*pageSize)
	}
	return &b.program, nil
}

// layoutSymbols are the offsets of the runtime's fields. A field that this Go
// version lacks is 0: no code that is reached reads it.
func layoutSymbols(l *target.Layout) symbols {
	syms := symbols{"HAVE_PARENT": 1}
	if l.G.ParentGoID == target.NoField {
		syms["HAVE_PARENT"] = 0
	}
	for name, off := range map[string]uint32{
		"G_M": l.G.M, "G_GOID": l.G.GoID, "G_WAITREASON": l.G.WaitReason, "G_STATUS": l.G.Status,
		"G_PARENT": l.G.ParentGoID, "G_GOPC": l.G.GoPC, "G_STARTPC": l.G.StartPC,
		"G_SCHEDPC": l.G.SchedPC, "G_SCHEDSP": l.G.SchedSP, "G_SCHEDBP": l.G.SchedBP, "G_STACKLO": l.G.StackLo, "G_STACKHI": l.G.StackHi,
		"G_COROARG": l.G.CoroArg, "G_COROEXIT": l.G.CoroExit,
		"M_ID": l.M.ID, "M_PROCID": l.M.ProcID, "M_P": l.M.P, "M_CURG": l.M.CurG, "M_G0": l.M.G0,
		"P_ID": l.P.ID, "CORO_GP": l.Coro.G,
	} {
		if off == target.NoField {
			off = 0
		}
		syms[name] = int64(off)
	}
	return syms
}

// here is the address of what is appended next.
func (b *builder) here() uint64 { return b.base + codeOffset + uint64(len(b.code)) }

// pad fills up to the next aligned address with breakpoints, which nobody reaches.
func (b *builder) pad() {
	for len(b.code)%align != 0 {
		b.code = append(b.code, 0xcc)
	}
}

// hook adds the stub of one site and what it needs.
func (b *builder) hook(index uint8, s *probes.Site) error {
	h := hook{addr: s.PC + b.bias}
	exit := uint64(0)
	if s.Callee != "" {
		fn, ok := b.bin.Func(s.Callee)
		if !ok {
			return fmt.Errorf("%s: %w", s.Callee, gobinary.ErrNoSymbol)
		}
		exit = fn.Entry + b.bias
	} else {
		w, err := b.window(s)
		if err != nil {
			return err
		}
		h.window, h.addr = &w, w.PC+b.bias
		if h.tail, err = b.appendTail(&w); err != nil {
			return err
		}
		exit = h.tail
	}
	entry, err := b.body(templateOf(s, b.shape.stacks), exit, &h)
	if err != nil {
		return err
	}
	stub, err := b.stub(cookie(index, s), entry, &h, exit)
	if err != nil {
		return err
	}
	if err := h.redirect(b.bin, s, stub, exit); err != nil {
		return err
	}
	b.hooks = append(b.hooks, h)
	return nil
}

// window finds the instructions that a jmp may replace.
func (b *builder) window(s *probes.Site) (gobinary.Window, error) {
	if s.Body {
		return b.bin.BodyWindow(s.Func)
	}
	return b.bin.WindowAt(s.PC)
}

// appendTail adds the copy of a window's instructions and the jmp back.
func (b *builder) appendTail(w *gobinary.Window) (uint64, error) {
	b.pad()
	at := b.here()
	insns, err := w.Relocate(at - b.bias)
	if err != nil {
		return 0, err
	}
	b.code = append(b.code, insns...)
	after := w.PC + b.bias + uint64(len(w.Orig))
	for _, in := range w.Insns {
		b.spans = append(b.spans, span{lo: at + uint64(in.Off), hi: at + uint64(in.Off+in.Len), to: w.PC + b.bias + uint64(in.Off)})
	}
	back := b.here()
	rel, err := distance(back+5, after)
	if err != nil {
		return 0, err
	}
	b.code = append(append(b.code, 0xe9), rel...)
	b.spans = append(b.spans, span{lo: back, hi: b.here(), to: after})
	return at, nil
}

// leave is where a thread in a hook's stub or template goes on without us: at the
// function that was to be called or, as the bytes are the original ones again, at
// the window.
func (h *hook) leave(exit uint64) uint64 {
	if h.window != nil {
		return h.addr
	}
	return exit
}

// body is the address of the template that ends at exit, linked at the first use.
func (b *builder) body(name string, exit uint64, h *hook) (uint64, error) {
	key := body{name, exit}
	if at, ok := b.bodies[key]; ok {
		return at, nil
	}
	t, ok := b.templates[name]
	if !ok {
		return 0, fmt.Errorf("%w: no template %s", errLink, name)
	}
	b.pad()
	at := b.here()
	b.symbols["EXIT"] = int64(exit)
	code, err := t.link(at, b.symbols)
	if err != nil {
		return 0, err
	}
	b.code = append(b.code, code...)
	b.spans = append(b.spans, span{lo: at, hi: b.here(), to: h.leave(exit), saved: true})
	b.bodies[key] = at
	return at, nil
}

// stub adds `mov $cookie, %edx; jmp entry`.
func (b *builder) stub(cookie uint32, entry uint64, h *hook, exit uint64) (uint64, error) {
	b.pad()
	at := b.here()
	b.code = binary.LittleEndian.AppendUint32(append(b.code, 0xba), cookie)
	rel, err := distance(b.here()+5, entry)
	if err != nil {
		return 0, err
	}
	b.code = append(append(b.code, 0xe9), rel...)
	b.spans = append(b.spans, span{lo: at, hi: b.here(), to: h.leave(exit)})
	return at, nil
}

// cookie is what the code learns of its site: see asm/probe_amd64.S.
func cookie(index uint8, s *probes.Site) uint32 {
	return uint32(index) | uint32(s.From)<<8 | uint32(s.To)<<16 | uint32(s.Flags)<<24
}

// redirect works out the bytes that lead from the site to the stub.
func (h *hook) redirect(bin *gobinary.File, s *probes.Site, stub, exit uint64) error {
	rel, err := distance(h.addr+5, stub)
	if err != nil {
		return err
	}
	if h.window != nil {
		h.at, h.orig = h.addr, h.window.Orig
		h.patch = append([]byte{0xe9}, rel...)
		for len(h.patch) < len(h.orig) {
			h.patch = append(h.patch, 0xcc) // nobody gets here: the jmp covers all
		}
		return nil
	}
	text, err := bin.CodeAt(s.PC, 5)
	if err != nil {
		return err
	}
	want, err := distance(h.addr+5, exit)
	if err != nil {
		return err
	}
	if text[0] != 0xe8 || string(text[1:]) != string(want) {
		return fmt.Errorf("% x is not the call that it should be", text)
	}
	h.at, h.orig, h.patch = h.addr+1, want, rel
	return nil
}

// distance is the operand of a jmp or call whose next instruction is at next.
func distance(next, to uint64) ([]byte, error) {
	d := int64(to - next)
	if d < math.MinInt32 || d > math.MaxInt32 {
		return nil, fmt.Errorf("%#x is more than 2 GiB from %#x", to, next)
	}
	return binary.LittleEndian.AppendUint32(nil, uint32(d)), nil
}
