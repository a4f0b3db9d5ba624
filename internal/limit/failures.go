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
	// trying counts its tries that are on their way, by what they try. What is
	// tried several times at once fails as one.
	trying map[[32]byte]int
}

// NewFailures returns a Failures that lets each client fail at a rate. Both
// numbers of the rate must be positive.
func NewFailures(r Rate) *Failures { return &Failures{rate: r, clients: newCache[*failing]()} }

// Try lets a client try something, and reports whether it may. Then the caller
// calls done, once, with the outcome. what is a hash of what is tried: many
// tries of one thing at once are as good as one. However many things are tried
// at once, no more of them can fail than may.
func (f *Failures) Try(client string, what [32]byte) (done func(failed bool), ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, known := f.clients.Get(client)
	if !known {
		c = &failing{allowed: rate.NewLimiter(rate.Limit(f.rate.PerSecond), f.rate.Burst), trying: map[[32]byte]int{}}
		f.clients.Add(client, c)
	}
	if c.trying[what] == 0 && c.allowed.TokensAt(time.Now()) < float64(len(c.trying)+1) {
		return nil, false
	}
	c.trying[what]++
	return func(failed bool) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if c.trying[what]--; c.trying[what] == 0 {
			delete(c.trying, what)
		}
		if failed {
			c.allowed.AllowN(time.Now(), 1)
		}
	}, true
}
