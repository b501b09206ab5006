package inline

import (
	"errors"
	"fmt"

	"gopherscope/internal/process"
)

// ErrNoSpace is an address space without room for the code near the program's.
var ErrNoSpace = errors.New("no free address space near the program's code")

const (
	// reach is how far the code may be from the program's text: a jmp's distance
	// has 32 bits, so this leaves room for the text's own length.
	reach = 1 << 30
	// lowest is an address that a nil pointer with an offset does not reach.
	lowest = 1 << 20
	// clearance is kept from what grows: the heap of brk(2) upwards, a stack
	// downwards.
	clearance = 64 << 10
)

// findSpace chooses an address for size bytes near the text [lo, hi): the highest
// free place below it, else the lowest above it. Below, nothing grows towards it:
// the kernel gives addresses there to nobody who does not ask for them.
func findSpace(maps []process.Mapping, lo, hi, size uint64) (uint64, error) {
	floor := max(lowest, lo-min(lo, reach))
	best, found := uint64(0), false
	free := func(from, to uint64) { // [from, to) is free
		from, to = max(from+clearance, floor), to-min(to, clearance)
		if to <= from || to-from < size {
			return
		}
		switch {
		case to <= lo:
			best, found = (to-size)&^(pageSize-1), true // the last one is the highest
		case !found && from >= hi && from+size < hi+reach:
			best, found = (from+pageSize-1)&^(pageSize-1), true
		}
	}
	end := uint64(0)
	for _, m := range maps {
		if m.Start > end {
			free(end, m.Start)
		}
		end = max(end, m.End)
	}
	free(end, 1<<47)
	if !found || best < floor {
		return 0, fmt.Errorf("%w: text at %#x", ErrNoSpace, lo)
	}
	return best, nil
}
