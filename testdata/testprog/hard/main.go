// Command hard does on demand what a tracer might not be ready for. It prints "ready PID" and the lines
// "goid ping ID" and "goid pong ID", then reads commands from stdin, one a line, and
// answers each with a line that begins with the command's name:
//
//	work N      N round trips between the goroutines ping and pong, each checked
//	pace D      round trips for a time; the answer has how many
//	fork        a child without exec does 1000 round trips of its own; the answer has its exit code, 7
//	threads N   N threads that each do some round trips, all at the same time; they stay
//	exec        executes the program again, which prints "ready PID" anew
//	forbid      a seccomp filter that kills for memfd_create, and for mmap with PROT_EXEC
//	forbidden   such an mmap
//
// At the end of stdin it prints "end" and exits with 0. What is wrong ends it with 3.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

func wrong(format string, args ...interface{}) {
	fmt.Fprintf(os.Stderr, "WRONG "+format+"\n", args...)
	os.Exit(3)
}

func check(err error) {
	if err != nil {
		wrong("%v", err)
	}
}

func goid() string {
	buf := make([]byte, 64)
	return string(bytes.Fields(buf[:runtime.Stack(buf, false)])[1])
}

// pair is two goroutines that pass a number to and fro.
type pair struct {
	begin, there, back chan int
	done               chan int
}

func newPair(locked bool, ids func(ping, pong string)) *pair {
	p := &pair{make(chan int), make(chan int), make(chan int), make(chan int)}
	var ping, pong string
	var wg sync.WaitGroup
	wg.Add(2)
	go func() {
		if locked {
			runtime.LockOSThread()
		}
		ping = goid()
		wg.Done()
		for n := range p.begin {
			for i := 0; i < n; i++ {
				p.there <- i
				if got := <-p.back; got != i+1 {
					wrong("%d came back for %d", got, i)
				}
			}
			p.done <- n
		}
	}()
	go func() {
		if locked {
			runtime.LockOSThread()
		}
		pong = goid()
		wg.Done()
		for n := range p.there {
			p.back <- n + 1
		}
	}()
	wg.Wait()
	if ids != nil {
		ids(ping, pong)
	}
	return p
}

func (p *pair) work(n int) {
	p.begin <- n
	if got := <-p.done; got != n {
		wrong("%d done of %d", got, n)
	}
}

func (p *pair) pace(d time.Duration) (n int) {
	const batch = 1000
	for end := time.Now().Add(d); time.Now().Before(end); n += batch {
		p.work(batch)
	}
	return n
}

// fork makes a child that has this thread only and goes on in Go code, as no program
// should; with one P it works for a while.
func (p *pair) fork() int {
	pid, _, errno := syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 {
		wrong("fork: %v", errno)
	}
	if pid == 0 {
		p.work(1000)
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 7, 0, 0)
	}
	var status syscall.WaitStatus
	for {
		_, err := syscall.Wait4(int(pid), &status, 0, nil)
		if err == syscall.EINTR {
			continue
		}
		check(err)
		if !status.Exited() {
			wrong("the child ended with %#x", uint32(status))
		}
		return status.ExitStatus()
	}
}

// threads makes n threads at the same time, which stay.
func threads(n int) {
	var begun, done sync.WaitGroup
	begun.Add(n)
	done.Add(n)
	all := make(chan bool)
	for i := 0; i < n; i++ {
		go func() {
			runtime.LockOSThread()
			begun.Done()
			<-all
			for k := 0; k < 20; k++ {
				runtime.Gosched()
			}
			done.Done()
			select {}
		}()
	}
	begun.Wait()
	close(all)
	done.Wait()
}

func main() {
	procs := 2
	if len(os.Args) > 1 && os.Args[1] == "one" {
		procs = 1
	}
	runtime.GOMAXPROCS(procs)
	fmt.Println("ready", os.Getpid())
	p := newPair(false, func(ping, pong string) { fmt.Printf("goid ping %s\ngoid pong %s\n", ping, pong) })
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		f := strings.Fields(in.Text())
		if len(f) == 0 {
			continue
		}
		arg := ""
		if len(f) > 1 {
			arg = f[1]
		}
		answer(p, f[0], arg)
	}
	fmt.Println("end")
}

// reached is where a debugger has its breakpoint.
//
//go:noinline
func reached() { fmt.Println("reach") }

func answer(p *pair, command, arg string) {
	switch command {
	case "work":
		n, err := strconv.Atoi(arg)
		check(err)
		p.work(n)
		fmt.Println("work", n)
	case "pace":
		d, err := time.ParseDuration(arg)
		check(err)
		fmt.Println("pace", p.pace(d))
	case "fork":
		fmt.Println("fork", p.fork())
	case "threads":
		n, err := strconv.Atoi(arg)
		check(err)
		threads(n)
		fmt.Println("threads", n)
	case "exec":
		check(syscall.Exec("/proc/self/exe", os.Args, os.Environ()))
	case "reach":
		reached()
	case "forbid":
		forbid()
		fmt.Println("forbid")
	case "forbidden":
		forbidden()
	default:
		wrong("command %q", command)
	}
}
