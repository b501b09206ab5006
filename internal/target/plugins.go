package target

import (
	"debug/elf"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"gopherscope/internal/process"
)

// notePlugins adds a note for each plugin that is loaded. A plugin has a copy of the
// runtime's code next to the program's, with the program's data. Which of the two runs is up
// to the linker: a change of status in the copy passes no probe.
//
// What cannot be looked at is left out: this is advice, and the violations of a trace tell
// as much.
func (t *Target) notePlugins() {
	maps, err := t.Proc.Mappings()
	if err != nil {
		return
	}
	lo, _ := t.Bin.Text()
	own := process.FileID{}
	for i := range maps {
		if at := lo + t.Bias; maps[i].Start <= at && at < maps[i].End {
			own = maps[i].File
		}
	}
	seen := map[process.FileID]bool{own: true}
	for i := range maps {
		m := &maps[i]
		if !m.Exec || m.File.Inode == 0 || seen[m.File] {
			continue
		}
		seen[m.File] = true
		if isGo(fmt.Sprintf("/proc/%d/root%s", t.Proc.PID(), m.Path)) {
			t.Notes = append(t.Notes, fmt.Sprintf("the program has loaded %q, with its own copy of code of the Go runtime: what goroutines do there is not traced, and shows as violations", m.Path))
		}
	}
}

// isGo says whether a file was linked by Go's linker, which gives every ELF file this
// section (cmd/link/internal/ld/elf.go, doelf). The path is the program's: what it names by
// now need not be a file, and must not hold us up.
func isGo(path string) bool {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return false
	}
	f, err := elf.NewFile(file)
	return err == nil && f.Section(".note.go.buildid") != nil
}
