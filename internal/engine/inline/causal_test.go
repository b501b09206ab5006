package inline

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gopherscope/internal/tsc"
)

// relay hands tokens from M to M, on threads of their own. Who has a token writes a record
// of its next step and then gives it away: as a thread does that reports the change of a
// goroutine and then makes it.
type relay struct {
	ms     []*fakeM
	tokens []struct {
		holder atomic.Int64 // index in ms; -1: done
		step   uint64       // of whoever holds it
	}
	steps uint64
	left  atomic.Int64
	lossy bool // a full ring costs a record; else the M waits for room
}

func (r *relay) run(index int, seed uint64) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	m, rnd := r.ms[index], rand.New(rand.NewPCG(seed, uint64(index)))
	seq := uint64(0)
	for r.left.Load() > 0 {
		idle := true
		for i := range r.tokens {
			tok := &r.tokens[i]
			if tok.holder.Load() != int64(index) {
				continue
			}
			idle = false
			tok.step++
			seq++
			// other: the token's step and, below it, that of the M
			for !m.write(plain(uint64(i)+1, tok.step<<32|seq)) && !r.lossy {
				m.lost--
				runtime.Gosched()
			}
			if tok.step == r.steps {
				tok.holder.Store(-1)
				r.left.Add(-1)
				continue
			}
			tok.holder.Store(int64(rnd.IntN(len(r.ms))))
		}
		if idle {
			runtime.Gosched()
		}
	}
}

// start gives the tokens out. The function it returns waits for their end.
func (r *relay) start(tokens int) (wait func()) {
	r.tokens = make([]struct {
		holder atomic.Int64
		step   uint64
	}, tokens)
	for i := range r.tokens {
		r.tokens[i].holder.Store(int64(i % len(r.ms)))
	}
	r.left.Store(int64(tokens))
	var wg sync.WaitGroup
	for i := range r.ms {
		wg.Go(func() { r.run(i, uint64(tokens)) })
	}
	return wg.Wait
}

// chains checks the order of a relay's records: no step of a token and no step of an M may
// come before the one that it follows. Gaps are what was lost.
type chains struct {
	token, m map[uint64]uint64
	bad      int
	example  string
	gaps     uint64 // in the steps of tokens
	records  uint64
}

func (c *chains) add(rec *record) error {
	token, m := rec.raw.goid(), uint64(rec.ring.m)
	step, seq := rec.raw.other()>>32, rec.raw.other()&(1<<32-1)
	c.records++
	if step <= c.token[token] || seq <= c.m[m] {
		if c.bad++; c.example == "" {
			c.example = fmt.Sprintf("token %d at %d after %d, M %d at %d after %d", token, step, c.token[token], m, seq, c.m[m])
		}
	}
	c.gaps += step - 1 - c.token[token]
	c.token[token], c.m[m] = step, seq
	return nil
}

// TestCausalOrder: with Ms that run and hand tokens to each other while the rings are
// drained, no drain passes on an effect before its cause. The rings are small, so they wrap
// all the time, and a record is lost only where that is meant to be.
func TestCausalOrder(t *testing.T) {
	if tsc.Now() == 0 {
		t.Skip("no time stamp counter")
	}
	for _, c := range []struct {
		name       string
		ms, tokens int
		ringBytes  int
		steps      uint64
		taker      bool
		pause      time.Duration // of the reader
		lossy      bool
	}{
		{"two threads", 2, 1, 1 << 14, 100_000, false, 0, false},
		{"two threads, many goroutines", 2, 16, 1 << 14, 20_000, true, 0, false},
		{"eight threads", 8, 20, 4096, 5_000, true, 0, false},
		{"eight threads, slow reader", 8, 64, 4096, 1_500, true, 5 * time.Millisecond, false},
		{"loss", 3, 8, 4096, 40_000, false, 2 * time.Millisecond, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newShared(t, minRings, c.ringBytes)
			r := &relay{ms: s.newMs(c.ms), steps: c.steps, lossy: c.lossy}
			ch := &chains{token: map[uint64]uint64{}, m: map[uint64]uint64{}}
			if c.taker {
				defer startTaker(s.rings, s.fd).stop()
			}
			wait := r.start(c.tokens)
			drains := 0
			for ; r.left.Load() > 0; drains++ {
				limit := tsc.Now()
				if err := s.drain(limit, ch.add); err != nil {
					t.Fatal(err)
				}
				time.Sleep(c.pause)
			}
			wait()
			if err := s.drain(everything, ch.add); err != nil {
				t.Fatal(err)
			}
			r.verify(t, s, ch)
			t.Logf("%d records in %d drains, %d lost", ch.records, drains, ch.gaps)
		})
	}
}

// verify compares what came with what was made.
func (r *relay) verify(t *testing.T, s *shared, c *chains) {
	t.Helper()
	if c.bad > 0 {
		t.Errorf("%d of %d records came too early: %s", c.bad, c.records, c.example)
	}
	lost := uint64(0)
	for _, m := range r.ms {
		lost += m.lost
	}
	full, noRing, corrupt := s.lostCounts()
	if made := r.steps * uint64(len(r.tokens)); c.records+lost != made || noRing+corrupt != 0 {
		t.Errorf("%d records and %d lost of %d; %d without ring, %d corrupt", c.records, lost, made, noRing, corrupt)
	}
	if r.lossy && (full != lost || lost == 0) {
		t.Errorf("%d lost, counted %d", lost, full)
	}
	if !r.lossy && c.gaps != 0 {
		t.Errorf("%d steps are missing", c.gaps)
	}
}
