package limit

import (
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// Failures bounds how often each client may fail. It is safe for concurrent
// use.
type Failures struct {
	rate    Rate
	mu      sync.Mutex
	clients *lru.Cache[string, *failing]
}

// failing is a client that may fail.
type failing struct {
	allowed *rate.Limiter
	// trying is how many of its tries are on their way. Each may fail.
	trying int
}

// NewFailures returns a Failures that lets each client fail at a rate. Both
// numbers of the rate must be positive.
func NewFailures(r Rate) *Failures { return &Failures{rate: r, clients: newCache[*failing]()} }

// Try lets a client try something, and reports whether it may. Then the caller
// calls done, once, with the outcome. However many tries are made at once, no
// more can fail than may.
func (f *Failures) Try(client string) (done func(failed bool), ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, known := f.clients.Get(client)
	if !known {
		c = &failing{allowed: rate.NewLimiter(rate.Limit(f.rate.PerSecond), f.rate.Burst)}
		f.clients.Add(client, c)
	}
	if c.allowed.TokensAt(time.Now()) < float64(c.trying+1) {
		return nil, false
	}
	c.trying++
	return func(failed bool) {
		f.mu.Lock()
		defer f.mu.Unlock()
		c.trying--
		if failed {
			c.allowed.AllowN(time.Now(), 1)
		}
	}, true
}
