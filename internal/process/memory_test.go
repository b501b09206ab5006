package process

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// pages starts a process with known memory and returns the address of it, see
// rolePages.
func pages(t *testing.T) (*child, uint64) {
	t.Helper()
	c := start(t, role("pages"))
	addr, err := strconv.ParseUint(c.line(t), 0, 64)
	if err != nil {
		t.Fatal(err)
	}
	return c, addr
}

func TestReadMem(t *testing.T) {
	c, addr := pages(t)
	p := c.open(t)
	page := uint64(os.Getpagesize())
	tests := []struct {
		name string
		addr uint64
		size int
		want string
		err  error
	}{
		{"nothing", 0, 0, "", nil},
		{"text", addr, 4, "goph", nil},
		{"across pages", addr + page - 2, 8, "\x00\x00secret", nil},
		{"not mapped", addr + 2*page, 1, "", ErrBadAddress},
		{"half mapped", addr + 2*page - 4, 8, "", ErrBadAddress},
		{"address 0", 0, 8, "", ErrBadAddress},
		{"kernel", 0xffff888000000000, 8, "", ErrBadAddress},
		{"last byte", 1<<64 - 1, 8, "", ErrBadAddress},
		{"end of the kernel's half", 1<<63 - 1, 8, "", ErrBadAddress},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := make([]byte, tt.size)
			if err := p.ReadMem(tt.addr, b); !errors.Is(err, tt.err) || err == nil && string(b) != tt.want {
				t.Errorf("ReadMem = %q, %v, want %q, %v", b, err, tt.want, tt.err)
			}
			n, err := p.ReadMany([]MemRead{{addr, make([]byte, 1)}, {tt.addr, b}, {addr, make([]byte, 1)}})
			want := 3
			if tt.err != nil {
				want = 1
			}
			if n != want || !errors.Is(err, tt.err) || err == nil && string(b) != tt.want {
				t.Errorf("ReadMany = %d, %v with %q, want %d, %v with %q", n, err, b, want, tt.err, tt.want)
			}
		})
	}
}

// A batch of any length is read whole, and a hole in it is told by its index.
func TestReadMany(t *testing.T) {
	c, addr := pages(t)
	p := c.open(t)
	for _, n := range []int{0, 1, maxBatch - 1, maxBatch, maxBatch + 1, 3*maxBatch + 7} {
		reads := make([]MemRead, n)
		for i := range reads {
			reads[i] = MemRead{Addr: addr + uint64(i%4), Buf: make([]byte, 1+i%2)}
			if i%100 == 50 {
				reads[i].Buf = nil
			}
		}
		if got, err := p.ReadMany(reads); got != n || err != nil {
			t.Fatalf("ReadMany of %d = %d, %v", n, got, err)
		}
		for i, r := range reads {
			if want := "goph\x00"[i%4 : i%4+len(r.Buf)]; string(r.Buf) != want {
				t.Fatalf("piece %d of %d is %q, want %q", i, n, r.Buf, want)
			}
		}
		if n == 0 {
			continue
		}
		bad := n * 2 / 3
		reads[bad] = MemRead{Addr: 8, Buf: make([]byte, 8)}
		if got, err := p.ReadMany(reads); got != bad || !errors.Is(err, ErrBadAddress) {
			t.Errorf("ReadMany of %d with a hole at %d = %d, %v", n, bad, got, err)
		}
	}
}

// Where process_vm_readv is missing or forbidden, the batch is read all the
// same.
func TestReadManyWithoutReadv(t *testing.T) {
	c, addr := pages(t)
	for _, errno := range []unix.Errno{unix.ENOSYS, unix.EPERM} {
		got := output(t, role("noreadv", strconv.Itoa(c.Process.Pid), fmt.Sprint(addr), strconv.Itoa(int(errno))))
		if want := fmt.Sprintf("2 goph %s\n", ErrBadAddress); got != want {
			t.Errorf("with %v: %q, want %q", errno, got, want)
		}
	}
}

func BenchmarkReadMem(b *testing.B) {
	p, err := Open(os.Getpid())
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	maps, err := p.Mappings()
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 8)
	for b.Loop() {
		if err := p.ReadMem(maps[0].Start, buf); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadMany(b *testing.B) {
	p, err := Open(os.Getpid())
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	maps, err := p.Mappings()
	if err != nil {
		b.Fatal(err)
	}
	reads := make([]MemRead, maxBatch)
	for i := range reads {
		reads[i] = MemRead{Addr: maps[0].Start, Buf: make([]byte, 8)}
	}
	for b.Loop() {
		if _, err := p.ReadMany(reads); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/maxBatch, "ns/piece")
}
