package main

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

// workload is something that the target does, in which the cost of one unit
// shows.
type workload struct {
	name, unit  string
	transitions float64 // changes of status a unit; 0 if that is not known
	prepare     func(t *target) error
	// once does it for about d and returns the ns a unit and the 99th
	// percentile of a unit's latency, 0 where that has no meaning.
	once  func(t *target, d time.Duration) (ns, p99 float64, err error)
	goals func([]result) []goal
}

// pingpong counts round trips of tokens. Each of the two goroutines of a pair
// parks, is made runnable and runs in a round trip: six changes.
func pingpong(procs, pairs int) workload {
	return workload{
		name:        fmt.Sprintf("ping-pong, GOMAXPROCS=%d, %d pairs", procs, pairs),
		unit:        "ns/round",
		transitions: 6,
		prepare:     func(*target) error { return nil },
		once: func(t *target, d time.Duration) (float64, float64, error) {
			answer, err := t.ask("pingpong %d %d %s", procs, pairs, d)
			if err != nil {
				return 0, 0, err
			}
			var rounds, ns float64
			if _, err := fmt.Sscan(answer, &rounds, &ns); err != nil {
				return 0, 0, fmt.Errorf("answer %q: %w", answer, err)
			}
			return ns / rounds, 0, nil
		},
		goals: func(res []result) []goal {
			if procs > 1 {
				return readerGoals(res)
			}
			return costGoals(res)
		},
	}
}

// connections is the number of clients that load the server at the same time.
const connections = 16

// httpLoad counts requests to a server that answers at once, over connections
// that are kept.
func httpLoad() workload {
	var url string
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections}}
	return workload{
		name: fmt.Sprintf("HTTP, %d connections", connections),
		unit: "ns/request",
		prepare: func(t *target) error {
			addr, err := t.ask("http")
			url = "http://" + addr
			return err
		},
		once: func(_ *target, d time.Duration) (float64, float64, error) {
			return load(client, url, d)
		},
		goals: func([]result) []goal { return nil },
	}
}

// load sends requests for d and returns the ns a request and the 99th
// percentile of their latency.
func load(client *http.Client, url string, d time.Duration) (ns, p99 float64, err error) {
	var mu sync.Mutex
	var all []time.Duration
	var wg sync.WaitGroup
	start := time.Now()
	for range connections {
		wg.Go(func() {
			var mine []time.Duration
			for time.Since(start) < d {
				began := time.Now()
				if e := get(client, url); e != nil {
					mu.Lock()
					err = e
					mu.Unlock()
					return
				}
				mine = append(mine, time.Since(began))
			}
			mu.Lock()
			all = append(all, mine...)
			mu.Unlock()
		})
	}
	wg.Wait()
	if err != nil || len(all) == 0 {
		return 0, 0, fmt.Errorf("load: %d requests: %w", len(all), err)
	}
	took := time.Since(start)
	slices.Sort(all)
	return float64(took) / float64(len(all)), float64(all[len(all)*99/100]), nil
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
