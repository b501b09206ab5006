package main

import (
	"bytes"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"
)

func systemParts(storm int) []*part {
	parts := []*part{
		{name: "echo", run: echo}, {name: "pipe", run: pipes}, {name: "file", run: files}, {name: "exec", run: execs},
	}
	if storm > 0 {
		parts = append(parts, &part{name: "storm", run: func(done func()) { signals(storm, done) }})
	}
	return parts
}

// echo sends to a server on the loopback interface and compares what comes back.
func echo(done func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		wrong("listen: %v", err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				wrong("accept: %v", err)
			}
			go func() { _, _ = io.Copy(c, c); c.Close() }()
		}
	}()
	var wg sync.WaitGroup
	for i := 0; i < 3; i++ {
		go func() {
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				wrong("dial: %v", err)
			}
			out, in := make([]byte, 256), make([]byte, 256)
			for n := byte(0); ; n++ {
				for k := range out {
					out[k] = n + byte(k)
				}
				if _, err := c.Write(out); err != nil {
					wrong("write: %v", err)
				}
				if _, err := io.ReadFull(c, in); err != nil || !bytes.Equal(in, out) {
					wrong("echo: %v, % x", err, in[:8])
				}
				done()
				time.Sleep(time.Millisecond)
			}
		}()
	}
	wg.Wait()
	select {}
}

// pipes blocks threads in read(2).
func pipes(done func()) {
	var p [2]int
	if err := syscall.Pipe(p[:]); err != nil {
		wrong("pipe: %v", err)
	}
	go func() {
		for n := byte(0); ; n++ {
			if _, err := syscall.Write(p[1], []byte{n}); err != nil {
				wrong("write to a pipe: %v", err)
			}
			time.Sleep(time.Millisecond)
		}
	}()
	b := make([]byte, 1)
	for want := byte(0); ; want++ {
		n, err := syscall.Read(p[0], b)
		for err == syscall.EINTR {
			n, err = syscall.Read(p[0], b)
		}
		if n != 1 || err != nil || b[0] != want {
			wrong("read of a pipe: %d bytes, %v, %d, not %d", n, err, b[0], want)
		}
		done()
	}
}

func files(done func()) {
	for {
		b, err := os.ReadFile("/proc/self/stat")
		if err != nil || !bytes.HasPrefix(b, []byte(strconv.Itoa(os.Getpid()))) {
			wrong("/proc/self/stat: %v, %q", err, b)
		}
		done()
		time.Sleep(2 * time.Millisecond)
	}
}

func execs(done func()) {
	for {
		out, err := exec.Command("echo", "x").Output()
		if err != nil || string(out) != "x\n" {
			wrong("echo: %v, %q", err, out)
		}
		done()
		time.Sleep(20 * time.Millisecond)
	}
}

// signals sends SIGURG to the program's threads, by which the runtime preempts. It
// takes them all for preemptions that came too late.
func signals(rate int, done func()) {
	for {
		dir, err := os.Open("/proc/self/task")
		if err != nil {
			wrong("threads: %v", err)
		}
		names, err := dir.Readdirnames(-1)
		dir.Close()
		if err != nil {
			wrong("threads: %v", err)
		}
		const burst = 100
		for i := 0; i < burst; i++ {
			tid, _ := strconv.Atoi(names[i%len(names)])
			// A thread may have ended.
			_, _, _ = syscall.RawSyscall(syscall.SYS_TGKILL, uintptr(os.Getpid()), uintptr(tid), uintptr(syscall.SIGURG))
		}
		done()
		time.Sleep(time.Second * burst / time.Duration(rate))
	}
}
