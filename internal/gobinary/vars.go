package gobinary

import "fmt"

// Allgs is the address of runtime.allgs, the slice of pointers to all g structs
// that there ever were: the one slice variable that runtime.allgadd appends to
// (runtime/proc.go, Go 1.18 to 1.27). ErrNoSymbol when the code does not show it.
func (f *File) Allgs() (uint64, error) {
	return f.sliceVar("runtime.allgs", "runtime.allgadd", 3)
}

// Allp is the address of runtime.allp, the slice of pointers to all p structs:
// the one slice variable that runtime.preemptall goes through (runtime/proc.go,
// Go 1.18 to 1.27). ErrNoSymbol when the code does not show it.
func (f *File) Allp() (uint64, error) {
	return f.sliceVar("runtime.allp", "runtime.preemptall", 2)
}

// sliceVar finds a slice variable in the function user: the address of writable
// data of which so many consecutive words are referred to there. There must be
// just one.
func (f *File) sliceVar(name, user string, words int) (uint64, error) {
	fn, ok := f.Func(user)
	if !ok {
		return 0, fmt.Errorf("address of %s: %s: %w", name, user, ErrNoSymbol)
	}
	used := map[uint64]bool{}
	for _, r := range f.refs(fn) {
		if r.kind == refCall || !f.writable(r.addr) {
			continue
		}
		used[r.addr] = true
		if r.width == 16 {
			used[r.addr+8] = true
		}
	}
	var found []uint64
	for addr := range used {
		n := 1
		for n < words && used[addr+8*uint64(n)] {
			n++
		}
		if n == words {
			found = append(found, addr)
		}
	}
	if len(found) != 1 {
		return 0, fmt.Errorf("address of %s: %s shows %d candidates: %w", name, user, len(found), ErrNoSymbol)
	}
	return found[0], nil
}
