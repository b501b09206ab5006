package gobinary

// Module is what tells a build of a program from others in the memory of a
// process: the head of the runtime's moduledata record, with the addresses and
// the sizes of the program's tables and of its code. The linker fills it in, and
// nobody changes it.
type Module struct {
	Addr  uint64   // of the record, as linked
	Words []uint64 // the head of the record; addresses in it are as linked
}

// Module is the head of the file's moduledata record.
func (f *File) Module() Module {
	m := Module{Addr: f.module.addr}
	for off := uint64(0); off <= modEText; off += 8 {
		v, _ := f.u64(m.Addr + off) // readModule has read it
		m.Words = append(m.Words, v)
	}
	return m
}
