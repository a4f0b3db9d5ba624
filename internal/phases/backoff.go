package phases

import (
	"math/rand/v2"
	"time"
)

// Backoff says how long to wait before the next try of something that failed.
type Backoff struct {
	// Initial is the wait after the first failure, and the least ever waited.
	Initial time.Duration
	// Max is the most ever waited.
	Max time.Duration
}

// Next returns the wait after the n-th failure in a row (n counts from 1):
// min(Initial·2^(n−1), Max), times a random factor in [0.5, 1], never below
// Initial. The formula is that of Stripe's client libraries; the randomness
// keeps clients that failed together from coming back together. A Max below
// Initial is taken as Initial. It is safe for concurrent use.
func (b Backoff) Next(n int) time.Duration {
	wait := b.Initial
	for i := 1; i < n && wait < b.Max; i++ {
		wait *= 2
	}
	wait = min(wait, b.Max)
	jittered := time.Duration(float64(wait) * (0.5 + rand.Float64()/2)) //nolint:gosec // spreading load needs no secrecy
	return max(jittered, b.Initial)
}
