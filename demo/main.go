// Command demo is a small HTTP server to try gopherscope on. It has what real
// servers have: a goroutine for each connection, workers fed by a channel, a
// cache behind a mutex that is fought over, a ticker, and a path that leaks.
//
//	GET /work     hands a job to a worker and waits for its result
//	GET /cached   holds the cache's mutex for a moment
//	GET /slow     sleeps
//	GET /leak     starts a goroutine that waits for ever
//
// With -load it sends itself requests until it is interrupted.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"time"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:0", "address to listen on")
	load := flag.Bool("load", false, "send requests to itself")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *addr, *load); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, addr string, load bool) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Printf("demo: PID %d listens on http://%s\n", os.Getpid(), listener.Addr())
	s := newServer(ctx, 4)
	if load {
		for range 8 {
			go client(ctx, "http://"+listener.Addr().String())
		}
	}
	server := &http.Server{Handler: s.routes(), ReadHeaderTimeout: 5 * time.Second}
	go func() {
		<-ctx.Done()
		server.Close()
	}()
	if err := server.Serve(listener); err != http.ErrServerClosed {
		return err
	}
	return nil
}

// server has the state behind the routes.
type server struct {
	jobs chan job

	mu    sync.Mutex
	cache map[int]int
}

// job is a number to be squared, and where the result goes.
type job struct {
	n      int
	result chan int
}

func newServer(ctx context.Context, workers int) *server {
	s := &server{jobs: make(chan job), cache: map[int]int{}}
	for range workers {
		go s.work(ctx)
	}
	go s.expire(ctx)
	return s
}

func (s *server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /work", func(w http.ResponseWriter, r *http.Request) {
		j := job{n: rand.IntN(1000), result: make(chan int)}
		s.jobs <- j
		fmt.Fprintln(w, <-j.result)
	})
	mux.HandleFunc("GET /cached", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, s.lookUp(rand.IntN(64)))
	})
	mux.HandleFunc("GET /slow", func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(20 * time.Millisecond)
		fmt.Fprintln(w, "done")
	})
	mux.HandleFunc("GET /leak", func(w http.ResponseWriter, r *http.Request) {
		go leak(make(chan int))
		fmt.Fprintln(w, "leaked")
	})
	return mux
}

// work takes jobs until the server ends.
func (s *server) work(ctx context.Context) {
	for {
		select {
		case j := <-s.jobs:
			j.result <- j.n * j.n
		case <-ctx.Done():
			return
		}
	}
}

// lookUp is slow while it holds the mutex, so that others queue for it.
func (s *server) lookUp(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	time.Sleep(100 * time.Microsecond)
	s.cache[n]++
	return s.cache[n]
}

// expire empties the cache every second.
func (s *server) expire(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			s.mu.Lock()
			clear(s.cache)
			s.mu.Unlock()
		case <-ctx.Done():
			return
		}
	}
}

// leak waits for a value that nobody sends.
func leak(c chan int) { <-c }

// client sends requests until the context ends. One in a thousand leaks.
func client(ctx context.Context, url string) {
	for ctx.Err() == nil {
		path := [...]string{"/work", "/work", "/work", "/cached", "/slow"}[rand.IntN(5)]
		if rand.IntN(1000) == 0 {
			path = "/leak"
		}
		resp, err := http.Get(url + path)
		if err != nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		_, _ = io.Copy(io.Discard, resp.Body) // to use the connection again
		resp.Body.Close()
		time.Sleep(time.Millisecond)
	}
}
