package work

import (
	"net"
	"syscall"
	"time"
)

// Syscall writes to a pipe and reads from it, n times each, through package
// syscall: no network poller.
//
//	count syscalls  2n+2: changes of goroutine caller from running to syscall
//	                (n writes, n reads, two closes; the pipe2 call is one that
//	                the runtime does not announce)
//	goid caller
func Syscall(n int) {
	ids := make(chan int)
	go func() {
		id := goid()
		fds := pipe()
		b := []byte{1}
		for i := 0; i < n; i++ {
			write(fds[1], b)
			read(fds[0], b)
		}
		check(syscall.Close(fds[0]))
		check(syscall.Close(fds[1]))
		ids <- id
	}()
	report("caller", <-ids)
	count("syscalls", 2*n+2)
}

// blockTime is how long each system call of BlockSys blocks at least: longer
// than sysmon leaves a P to a thread in a system call.
const blockTime = 25 * time.Millisecond

// BlockSys blocks a goroutine n times in read(2), each for at least blockTime.
//
//	count blocked_reads  n: intervals in state syscall of goroutine blocked that
//	                     last 25 ms or more
//	goid blocked
func BlockSys(n int) {
	ids := make(chan int)
	fds := pipe()
	go func() {
		ids <- goid()
		b := []byte{1}
		for i := 0; i < n; i++ {
			read(fds[0], b)
			ids <- 0
		}
	}()
	id := <-ids
	for i := 0; i < n; i++ {
		waitState(id, "syscall")
		time.Sleep(blockTime)
		write(fds[1], []byte{1})
		<-ids
	}
	check(syscall.Close(fds[0]))
	check(syscall.Close(fds[1]))
	report("blocked", id)
	count("blocked_reads", n)
}

func pipe() [2]int {
	var fds [2]int
	check(syscall.Pipe(fds[:]))
	return fds
}

// read reads one byte. It counts as one system call: a read that returns EINTR
// (no signal handler of the runtime is installed without SA_RESTART) is an error.
func read(fd int, b []byte) {
	_, err := syscall.Read(fd, b)
	check(err)
}

func write(fd int, b []byte) {
	_, err := syscall.Write(fd, b)
	check(err)
}

// NetEcho sends a byte to an echo server over loopback TCP and reads it back,
// n times.
//
//	count net_roundtrips  n
//	count io_waits        2: parks with "IO wait" that are certain, of goroutine
//	                      server (in accept, and in its first read)
//	goid server
func NetEcho(n int) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	ids := make(chan int)
	go echo(l, ids)
	server := <-ids
	waitState(server, "IO wait")
	c, err := net.Dial("tcp", l.Addr().String())
	check(err)
	<-ids
	waitState(server, "IO wait")
	b := []byte{1}
	for i := 0; i < n; i++ {
		_, err := c.Write(b)
		check(err)
		_, err = c.Read(b)
		check(err)
	}
	check(c.Close())
	<-ids
	check(l.Close())
	report("server", server)
	count("net_roundtrips", n)
	count("io_waits", 2)
}

// echo serves one connection until its end.
func echo(l net.Listener, ids chan<- int) {
	ids <- goid()
	c, err := l.Accept()
	check(err)
	ids <- 0
	b := make([]byte, 1)
	for {
		if _, err := c.Read(b); err != nil {
			break
		}
		_, err := c.Write(b)
		check(err)
	}
	check(c.Close())
	ids <- 0
}
