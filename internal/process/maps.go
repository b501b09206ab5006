package process

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Mapping is one line of /proc/PID/maps: a range of addresses and what is
// there.
type Mapping struct {
	Start, End uint64 // addresses, End excluded
	Offset     uint64 // in the file, bytes
	Read       bool
	Write      bool
	Exec       bool
	Shared     bool
	// File identifies the mapped file, with Inode 0 for memory that is no
	// file's. It may differ from what stat(2) says of the same file: btrfs and
	// overlayfs show other devices here. Compare it with other mappings only.
	File FileID
	// Path is the file's name for people, "[stack]" and the like, or "".
	Path string
}

// Mappings are the process's mappings in ascending order of address.
func (p *Process) Mappings() ([]Mapping, error) {
	b, err := p.read("maps")
	if err != nil {
		return nil, err
	}
	maps, err := parseMaps(b)
	if err != nil {
		return nil, p.fail(err)
	}
	// A maps file is not tied to the image that was opened.
	if err := p.Check(); err != nil {
		return nil, err
	}
	return maps, nil
}

func parseMaps(text []byte) ([]Mapping, error) {
	var maps []Mapping
	for line := range bytes.Lines(text) {
		m, err := parseMapping(strings.TrimSuffix(string(line), "\n"))
		if err != nil {
			return nil, fmt.Errorf("parse maps line %q: %w", line, err)
		}
		maps = append(maps, m)
	}
	return maps, nil
}

// parseMapping reads a line "START-END PERMS OFFSET MAJOR:MINOR INODE   PATH",
// all hexadecimal but the inode (fs/proc/task_mmu.c, show_map_vma). The path
// may contain blanks.
func parseMapping(line string) (Mapping, error) {
	f := strings.SplitN(line, " ", 6)
	if len(f) < 5 || len(f[1]) != 4 {
		return Mapping{}, errors.New("not of the known form")
	}
	start, end, _ := strings.Cut(f[0], "-")
	major, minor, _ := strings.Cut(f[3], ":")
	var nums [6]uint64
	for i, n := range []struct {
		text string
		base int
	}{{start, 16}, {end, 16}, {f[2], 16}, {major, 16}, {minor, 16}, {f[4], 10}} {
		var err error
		if nums[i], err = strconv.ParseUint(n.text, n.base, 64); err != nil {
			return Mapping{}, err
		}
	}
	m := Mapping{
		Start: nums[0], End: nums[1], Offset: nums[2],
		Read: f[1][0] == 'r', Write: f[1][1] == 'w', Exec: f[1][2] == 'x', Shared: f[1][3] == 's',
		File: FileID{Dev: nums[3]<<32 | nums[4], Inode: nums[5]},
	}
	if len(f) == 6 {
		m.Path = strings.TrimLeft(f[5], " ")
	}
	return m, nil
}

// Segment is a loadable segment of an ELF file: its program header of type
// PT_LOAD.
type Segment struct {
	Vaddr, Memsz uint64 // as linked, bytes
	Off, Filesz  uint64 // in the file, bytes
	Flags        elf.ProgFlag
}

// Image is a file of which the process has code mapped: its executable, the
// dynamic linker, a library.
type Image struct {
	// OpenPath is a name to open the file by, also when it was deleted or is in
	// another mount namespace. For files other than the executable this is a
	// link of /proc/PID/map_files, which only CAP_CHECKPOINT_RESTORE or
	// CAP_SYS_ADMIN may follow.
	OpenPath string
	// Path is the file's name for people, with " (deleted)" after it when it
	// is no longer there.
	Path string

	maps []Mapping // those of the file's code, with at least one
}

// Images lists the files of which the process has code mapped, by address, but
// the executable first: the file that contains the address at which the kernel
// started the program. For a program started as an argument of the dynamic
// linker that is the linker, and the program is among the others.
func (p *Process) Images() ([]Image, error) {
	maps, err := p.Mappings()
	if err != nil {
		return nil, err
	}
	auxv, err := p.read("auxv")
	if err != nil {
		return nil, err
	}
	entry, ok := AuxValue(auxv, AtEntry)
	if !ok {
		return nil, p.fail(errors.New("auxiliary vector has no entry point"))
	}
	images := p.images(maps, entry)
	if err := p.Check(); err != nil {
		return nil, err
	}
	return images, nil
}

func (p *Process) images(maps []Mapping, entry uint64) []Image {
	var images []Image
	index := map[FileID]int{}
	rank := func(im Image) int {
		if im.OpenPath == p.ExePath() {
			return 0
		}
		return 1
	}
	for _, m := range maps {
		if !m.Exec || m.File.Inode == 0 {
			continue
		}
		i, ok := index[m.File]
		if !ok {
			i = len(images)
			index[m.File] = i
			images = append(images, Image{
				OpenPath: p.path(fmt.Sprintf("map_files/%x-%x", m.Start, m.End)),
				Path:     m.Path,
			})
		}
		images[i].maps = append(images[i].maps, m)
		if m.Start <= entry && entry < m.End {
			images[i].OpenPath = p.ExePath()
		}
	}
	slices.SortStableFunc(images, func(a, b Image) int {
		return cmp.Compare(rank(a), rank(b))
	})
	return images
}

// LoadBias is what to add to an address of the executable as linked to get the
// address in the process; 0 unless the executable is position-independent.
// segments are those of the file at ExePath.
func (p *Process) LoadBias(segments []Segment) (uint64, error) {
	images, err := p.Images()
	if err != nil {
		return 0, err
	}
	if len(images) == 0 || images[0].OpenPath != p.ExePath() {
		return 0, p.fail(errors.New("the executable's code is not mapped"))
	}
	bias, err := images[0].LoadBias(segments)
	if err != nil {
		return 0, p.fail(err)
	}
	return bias, nil
}

// LoadBias is what to add to an address of the file as linked to get the
// address in the process. segments are the file's.
func (im *Image) LoadBias(segments []Segment) (uint64, error) {
	return Bias(im.Path, im.maps, segments, uint64(os.Getpagesize()))
}

// Bias is what to add to an address of the file path as linked to get the address
// where it is mapped. code are the mappings of its code, segments those of the
// file, and page is the size of a page of the machine that mapped it.
func Bias(path string, code []Mapping, segments []Segment, page uint64) (uint64, error) {
	var biases []uint64
	for _, m := range code {
		for _, s := range segments {
			// The kernel maps whole pages, so a page that two segments share
			// in the file is mapped for both; only one of them is code.
			first, end := s.Off&^(page-1), s.Off+s.Filesz
			if s.Flags&elf.PF_X != 0 && first <= m.Offset && m.Offset < end {
				biases = append(biases, m.Start-m.Offset+s.Off-s.Vaddr)
			}
		}
	}
	if len(biases) == 0 {
		return 0, fmt.Errorf("no code of %s is where its program headers say", Printable(path))
	}
	for _, b := range biases {
		if b != biases[0] || b%page != 0 {
			return 0, fmt.Errorf("code of %s is mapped in contradictory places", Printable(path))
		}
	}
	return biases[0], nil
}

// Keys of the auxiliary vector (include/uapi/linux/auxvec.h).
const (
	AtPageSize = 6 // AT_PAGESZ: bytes
	AtEntry    = 9 // AT_ENTRY: the program's first address
)

// AuxValue finds a key in an auxiliary vector: pairs of words in the machine's
// byte order.
func AuxValue(auxv []byte, key uint64) (uint64, bool) {
	for ; len(auxv) >= 16; auxv = auxv[16:] {
		if binary.NativeEndian.Uint64(auxv) == key {
			return binary.NativeEndian.Uint64(auxv[8:]), true
		}
	}
	return 0, false
}
