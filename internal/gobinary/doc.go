// Package gobinary reads an ELF executable built by Go 1.18 or later for amd64
// or arm64: its version, functions, lines, inlining, runtime struct layouts and
// the addresses of runtime variables. It reads the file only, never a process,
// and it needs neither symbol table nor DWARF nor section headers, so stripped,
// position-independent, cgo, trimmed, race and unoptimised builds are all alike.
//
// Where the facts come from:
//
//   - functions, lines and inlining from the pclntab, the table that the
//     runtime itself unwinds stacks with (runtime/symtab.go, cmd/link/internal/ld/pcln.go);
//   - its tables' places and the text's start from the moduledata record
//     (runtime/symtab.go, type moduledata);
//   - struct layouts from the type descriptors that the runtime allocates with
//     (internal/abi/type.go), never from tables of offsets;
//   - addresses of variables and probe points by disassembly of the functions
//     that use them.
//
// All addresses are as linked. In a position-independent executable the load
// bias has to be added to get an address of a process.
//
// The file's content is not trusted: every length and address is checked against
// the file's size, and no work or allocation grows faster than the file.
//
// A [File] is safe for concurrent use until it is closed.
package gobinary
