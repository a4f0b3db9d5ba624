package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// A sample is one answer.
type sample struct {
	end time.Time
	// latency counts from when the request was to be sent. In a closed loop
	// that is when it was sent. In an open loop it is the time of its plan: a
	// server that is slow for a second then shows in all the requests of that
	// second, also in those that could only be sent late.
	latency time.Duration
	status  int // 0: no answer
}

// A recorder keeps samples. It is safe for concurrent use.
type recorder struct {
	mu      sync.Mutex
	samples []sample
}

func (r *recorder) add(samples ...sample) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.samples = append(r.samples, samples...)
}

// between returns the samples whose answers came in a time.
func (r *recorder) between(from, to time.Time) []sample {
	r.mu.Lock()
	defer r.mu.Unlock()
	var in []sample
	for _, s := range r.samples {
		if s.end.After(from) && !s.end.After(to) {
			in = append(in, s)
		}
	}
	return in
}

// calls are what clients send: each time it is called, it returns the next one.
// They are safe for concurrent use, and go on where the last run has ended: a
// new ride stays a new one.
type calls func() call

// numbered returns the calls that a function of their number makes, from 0.
func numbered(numberTh func(n int64) call) calls {
	var count atomic.Int64
	return func() call { return numberTh(count.Add(1) - 1) }
}

// A load sends calls to one address.
type load struct {
	address string
	next    calls
}

// sendAll sends a number of calls, and returns an error, about the first other
// answer, unless each is answered with the status that is wanted.
func (l load) sendAll(n, wanted int) error {
	const clients = 16
	var group sync.WaitGroup
	var sent atomic.Int64
	failed := make(chan error, 1)
	for range clients {
		group.Go(func() {
			c := client{address: l.address}
			defer c.close()
			for sent.Add(1) <= int64(n) {
				if status := c.send(l.next()); status != wanted {
					select {
					case failed <- fmt.Errorf("a request was answered %d (0: not at all), and not %d", status, wanted):
					default: // another one is reported
					}
				}
			}
		})
	}
	group.Wait()
	close(failed)
	return <-failed
}

// closedLoop has each client send its next request when it has the answer to
// the last one, until ctx ends.
func (l load) closedLoop(ctx context.Context, clients int, r *recorder) {
	var group sync.WaitGroup
	for range clients {
		group.Go(func() {
			c := client{address: l.address}
			defer c.close()
			var own []sample
			for ctx.Err() == nil {
				start := time.Now()
				status := c.send(l.next())
				end := time.Now()
				own = append(own, sample{end: end, latency: end.Sub(start), status: status})
				if status == 0 {
					time.Sleep(time.Millisecond) // a server that is gone is asked no faster
				}
			}
			r.add(own...)
		})
	}
	group.Wait()
}

// To sleep costs more than to send. So requests of which more than flood come
// in a second are sent a few together, at most floodPause late. Their latency
// counts from their plan.
const (
	flood      = 5000
	floodPause = 500 * time.Microsecond
)

// openLoop sends requests at random times, on average rate in a second, until
// ctx ends, however long the answers take. It returns when all have come.
func (l load) openLoop(ctx context.Context, rate float64, r *recorder) {
	random := rand.New(rand.NewPCG(1, 1)) //nolint:gosec // the same arrivals in every run
	var pause time.Duration
	if rate > flood {
		pause = floodPause
	}
	c := newCrowd(l, r)
	for planned := time.Duration(0); ctx.Err() == nil; {
		planned += time.Duration(random.ExpFloat64() / rate * float64(time.Second))
		if early := planned - time.Since(c.began); early > 0 {
			time.Sleep(max(early, pause))
		}
		c.send(planned)
	}
	c.leave()
}
