package snapshot

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"gopherscope/internal/corefile"
	"gopherscope/internal/process"
	"gopherscope/internal/target"
	"gopherscope/internal/testenv"
)

// TestHeld reads from memory whose fifth page is missing.
func TestHeld(t *testing.T) {
	mem, err := unix.Mmap(-1, 0, 8*pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mem)
	for i := range mem {
		mem[i] = byte(i % 251)
	}
	base := unsafe.Pointer(&mem[0])
	if err := unix.MunmapPtr(unsafe.Add(base, 4*pageSize), pageSize); err != nil {
		t.Fatal(err)
	}
	p, err := process.Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, tt := range []struct{ at, n, want int }{
		{0, pageSize, pageSize}, {8, 16, 16}, {0, 0, 0}, {8, 4*pageSize - 8, 4*pageSize - 8},
		{8, 8*pageSize - 8, 4*pageSize - 8}, {3*pageSize + 100, 2 * pageSize, pageSize - 100},
		{4*pageSize - 8, 16, 8}, {4 * pageSize, 8, 0}, {4*pageSize + 8, 4 * pageSize, 0}, {5 * pageSize, 3 * pageSize, 3 * pageSize},
	} {
		got := held(p, uint64(uintptr(base))+uint64(tt.at), uint64(tt.n))
		if len(got) != tt.want || tt.want > 0 && !bytes.Equal(got, mem[tt.at:tt.at+tt.want]) {
			t.Errorf("%d bytes at %d: %d bytes, want %d", tt.n, tt.at, len(got), tt.want)
		}
	}
}

// TestSampleOnce makes every thread of a core file one that ran a goroutine: there
// is one sample of it.
func TestSampleOnce(t *testing.T) {
	prog := testenv.Start(t, testenv.BuildTarget(t, "preempt", testenv.Build{Go: "1.27"}), "600000")
	for range 10 {
		path := testenv.Gcore(t, prog)
		samples, threads := sampleCore(t, path)
		if len(samples) == 0 {
			continue // between two spins
		}
		repeatThread(t, path, uint32(samples[0].TID))
		again, same := sampleCore(t, path)
		if len(again) != 1 || again[0].TID != samples[0].TID || len(same) != len(threads) || len(threads) < 2 {
			t.Errorf("%d samples of %d threads, was %d of %d", len(again), len(same), len(samples), len(threads))
		}
		return
	}
	t.Error("no core file has a goroutine that runs")
}

// sampleCore samples the threads of a core file.
func sampleCore(t *testing.T, path string) ([]Sample, []corefile.Thread) {
	t.Helper()
	core, err := corefile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer core.Close()
	tgt, err := target.OpenCore(core, "")
	if err != nil {
		t.Fatal(err)
	}
	defer tgt.Close()
	var tids []int
	for _, th := range core.Threads() {
		tids = append(tids, th.TID)
	}
	samples, err := (&coreSampler{t: tgt, core: core}).Sample(tids)
	if err != nil {
		t.Fatal(err)
	}
	return samples, core.Threads()
}

// repeatThread puts the registers of a thread into the notes of all threads of a
// core file; the numbers stay (struct elf_prstatus, pr_pid at 32, pr_reg at 112).
func repeatThread(t *testing.T, path string, tid uint32) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	core, err := elf.NewFile(f)
	if err != nil {
		t.Fatal(err)
	}
	var regs []byte
	var places []int64 // of the registers in the file
	for _, p := range core.Progs {
		if p.Type != elf.PT_NOTE {
			continue
		}
		notes := make([]byte, p.Filesz)
		if _, err := p.ReadAt(notes, 0); err != nil {
			t.Fatal(err)
		}
		word := func(at int) int { return int(binary.LittleEndian.Uint32(notes[at:])) }
		for at := 0; at+12 <= len(notes); {
			desc := at + 12 + (word(at)+3)&^3
			size := word(at + 4)
			if elf.NType(word(at+8)) == elf.NT_PRSTATUS {
				places = append(places, int64(p.Off)+int64(desc+112))
				if uint32(word(desc+32)) == tid {
					regs = notes[desc+112 : desc+size]
				}
			}
			at = desc + (size+3)&^3
		}
	}
	for _, at := range places {
		if _, err := f.WriteAt(regs, at); err != nil {
			t.Fatal(err)
		}
	}
}
