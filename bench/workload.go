package main

import (
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"time"
)

// workload is something that the target does, in which the cost of one unit
// shows.
type workload struct {
	name string
	unit string // what is counted
	rate bool   // say units a second, not ns a unit
	// onOneCPU says that the target uses one CPU of the machine.
	onOneCPU bool
	// pace is how many transitions a second the target makes, if it can; 0: as many as it can.
	// Such a workload says what is lost at that pace, and has the inline variants' only.
	pace    float64
	prepare func(t *target) error
	once    func(t *target, d time.Duration) (sample, error) // does it for about d
}

// sample is one measurement of a workload.
type sample struct {
	units float64       // how many were done
	took  time.Duration // in this time
	p99   time.Duration // 99th percentile of a unit's latency; 0 if it has none
}

// workloads are ping-pong with one and with eight pairs, on one CPU, where a
// reader has another for itself, and on all, where it competes; the same at a pace; and
// HTTP.
func workloads(cpus int) []workload {
	w := []workload{pingpong(1, 1), pingpong(1, 8)}
	if cpus > 1 {
		w = append(w, pingpong(cpus, 1), pingpong(cpus, 8))
	}
	if cpus > 1 && runtime.GOARCH == "amd64" {
		w = append(w, paced(8e6))
	}
	return append(w, httpLoad())
}

// tripTransitions are the changes of status in a round trip: each of the two goroutines of a
// pair parks, is made runnable and runs.
const tripTransitions = 6

// pacedTimes is how much longer a round at a pace is: what is asked is what a reader costs and
// loses that keeps going, not what it takes to begin.
const pacedTimes = 3

// paced is ping-pong on one CPU that is held to a pace. The target spins between batches, so
// the CPU is as busy as without.
func paced(transitions float64) workload {
	w := pingpong(1, 1)
	w.name = fmt.Sprintf("%s, %.0f million transitions a second", w.name, transitions/1e6)
	w.pace = transitions
	w.once = func(t *target, d time.Duration) (sample, error) {
		return t.trips("paced %.0f %s", transitions/tripTransitions, pacedTimes*d)
	}
	return w
}

// trips asks for round trips.
func (t *target) trips(format string, args ...any) (s sample, err error) {
	answer, err := t.ask(format, args...)
	if err != nil {
		return s, err
	}
	if _, err := fmt.Sscan(answer, &s.units, (*int64)(&s.took)); err != nil {
		return s, fmt.Errorf("answer %q: %w", answer, err)
	}
	return s, nil
}

// pingpong counts round trips of tokens.
func pingpong(procs, pairs int) workload {
	return workload{
		name:     fmt.Sprintf("ping-pong GOMAXPROCS=%d pairs=%d", procs, pairs),
		unit:     "round trip",
		onOneCPU: procs == 1,
		prepare:  func(*target) error { return nil },
		once: func(t *target, d time.Duration) (sample, error) {
			return t.trips("pingpong %d %d %s", procs, pairs, d)
		},
	}
}

// connections is the number of clients that load the server at the same time.
const connections = 16

// httpLoad counts requests to a server that answers at once, over connections
// that are kept. The clients use the same CPUs as the server.
func httpLoad() workload {
	var url string
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections}}
	return workload{
		name: fmt.Sprintf("HTTP connections=%d", connections),
		unit: "request",
		rate: true,
		prepare: func(t *target) error {
			addr, err := t.ask("http")
			url = "http://" + addr
			return err
		},
		once: func(_ *target, d time.Duration) (sample, error) { return load(client, url, d) },
	}
}

// load sends requests for d.
func load(client *http.Client, url string, d time.Duration) (sample, error) {
	var mu sync.Mutex
	var all []time.Duration
	var failed error
	var wg sync.WaitGroup
	start := time.Now()
	for range connections {
		wg.Go(func() {
			latencies, err := requests(client, url, start.Add(d))
			mu.Lock()
			defer mu.Unlock()
			all = append(all, latencies...)
			if err != nil {
				failed = err
			}
		})
	}
	wg.Wait()
	if failed != nil {
		return sample{}, failed
	}
	slices.Sort(all)
	return sample{units: float64(len(all)), took: time.Since(start), p99: all[len(all)*99/100]}, nil
}

// requests sends one request after the other, at least one, until the end.
func requests(client *http.Client, url string, end time.Time) (latencies []time.Duration, err error) {
	for {
		began := time.Now()
		if err := get(client, url); err != nil {
			return nil, err
		}
		now := time.Now()
		latencies = append(latencies, now.Sub(began))
		if now.After(end) {
			return latencies, nil
		}
	}
}

func get(client *http.Client, url string) error {
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
