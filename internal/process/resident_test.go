package process

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestResident compares with what this process maps, touches, and gives back.
func TestResident(t *testing.T) {
	p, err := Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	resident := func() uint64 {
		n, err := p.Resident()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	const size = 256 << 20
	before := resident()
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(b)
	mapped := resident()
	for i := 0; i < size; i += os.Getpagesize() {
		b[i] = 1
	}
	touched := resident()
	if mapped > before+size/2 || touched < before+size/2 {
		t.Errorf("%d MiB before, %d mapped, %d touched", before>>20, mapped>>20, touched>>20)
	}
}
