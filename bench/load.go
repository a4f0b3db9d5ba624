package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
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

// A call is one HTTP request of the load.
type call struct {
	method, path, apiKey, key, prefer, body string
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

// A caller sends calls to one address. It is safe for concurrent use.
type caller struct {
	client *fasthttp.HostClient
	next   calls
}

// requestTimeout is longer than anything that is measured.
const requestTimeout = time.Minute

func newCaller(address string, next calls) *caller {
	return &caller{next: next, client: &fasthttp.HostClient{
		Addr: address, MaxConns: 1 << 20, ReadTimeout: requestTimeout, WriteTimeout: requestTimeout,
		MaxIdemponentCallAttempts: 1, NoDefaultUserAgentHeader: true, DisablePathNormalizing: true,
	}}
}

// send sends the next call and returns the status of its answer, or 0 if there
// is none.
func (c *caller) send() int {
	call := c.next()
	request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(request)
	defer fasthttp.ReleaseResponse(response)
	request.SetRequestURI("http://" + c.client.Addr + call.path)
	request.Header.SetMethod(call.method)
	request.Header.Set("Authorization", "Bearer "+call.apiKey)
	if call.key != "" {
		request.Header.Set("Idempotency-Key", call.key)
	}
	if call.prefer != "" {
		request.Header.Set("Prefer", call.prefer)
	}
	if call.body != "" {
		request.Header.SetContentType("application/json")
		request.SetBodyString(call.body)
	}
	if err := c.client.Do(request, response); err != nil {
		return 0
	}
	if len(response.Header.Peek("Idempotent-Replayed")) > 0 {
		return replayed + response.StatusCode()
	}
	return response.StatusCode()
}

// replayed is added to the status of an answer that was given before, so that
// one can't pass for a new ride.
const replayed = 1000

// sendAll sends a number of calls, and returns an error unless each is answered
// with the status that is wanted.
func (c *caller) sendAll(n, wanted int) error {
	const clients = 16
	var group sync.WaitGroup
	var sent, other atomic.Int64
	for range clients {
		group.Go(func() {
			for sent.Add(1) <= int64(n) {
				if status := c.send(); status != wanted {
					other.Store(int64(status))
				}
			}
		})
	}
	group.Wait()
	c.client.CloseIdleConnections()
	if status := other.Load(); status != 0 {
		return fmt.Errorf("a request was answered %d, and not %d", status, wanted)
	}
	return nil
}

// closedLoop has each client send its next request when it has the answer to
// the last one, until ctx ends.
func (c *caller) closedLoop(ctx context.Context, clients int, r *recorder) {
	var group sync.WaitGroup
	for range clients {
		group.Go(func() {
			var own []sample
			for ctx.Err() == nil {
				start := time.Now()
				status := c.send()
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
	c.client.CloseIdleConnections()
}

// openLoop sends requests at random times, on average rate in a second, until
// ctx ends, however long the answers take. It returns when all have come.
func (c *caller) openLoop(ctx context.Context, rate float64, r *recorder) {
	random := rand.New(rand.NewPCG(1, 1)) //nolint:gosec // the same arrivals in every run
	var group sync.WaitGroup
	for planned := time.Now(); ctx.Err() == nil; {
		planned = planned.Add(time.Duration(random.ExpFloat64() / rate * float64(time.Second)))
		time.Sleep(time.Until(planned))
		group.Go(func() {
			status := c.send()
			end := time.Now()
			r.add(sample{end: end, latency: end.Sub(planned), status: status})
		})
	}
	group.Wait()
	c.client.CloseIdleConnections()
}
