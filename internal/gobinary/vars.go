package gobinary

import "fmt"

// Allgs is the address of runtime.allgs, the slice of pointers to all g structs
// that there ever were: the one slice variable that runtime.allgadd appends to
// (runtime/proc.go, Go 1.18 to 1.27).
func (f *File) Allgs() (uint64, error) {
	return f.sliceVar("runtime.allgs", "runtime.allgadd", 3)
}

// Allp is the address of runtime.allp, the slice of pointers to all p structs:
// the slice variable that runtime.preemptall goes through (runtime/proc.go,
// Go 1.18 to 1.27).
func (f *File) Allp() (uint64, error) {
	return f.sliceVar("runtime.allp", "runtime.preemptall", 2)
}

// sliceVar finds a slice variable in the function user: the lowest address of
// writable data of which so many consecutive words are referred to there.
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
	found := uint64(0)
	for addr := range used {
		whole := true
		for i := 1; i < words; i++ {
			whole = whole && used[addr+8*uint64(i)]
		}
		if whole && (found == 0 || addr < found) {
			found = addr
		}
	}
	if found == 0 {
		return 0, fmt.Errorf("address of %s: %s does not show it: %w", name, user, ErrNoSymbol)
	}
	return found, nil
}
