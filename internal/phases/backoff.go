package phases

import (
	"math/rand/v2"
	"time"
)

// Backoff is how long to wait before something that failed is tried again.
type Backoff struct {
	// Initial is the wait after the first failure, and the least ever waited.
	Initial time.Duration
	// Max is the most ever waited.
	Max time.Duration
}

// Next returns the wait after the n-th failure in a row (n counts from 1):
// min(Initial·2^(n−1), Max), times a random factor in [0.5, 1], but never less
// than Initial. The formula is that of Stripe's client libraries. The random
// factor keeps clients that failed together from coming back together. A Max
// below Initial counts as Initial, and a negative time as zero. Next is safe
// for concurrent use.
func (b Backoff) Next(n int) time.Duration {
	wait := max(b.Max, b.Initial, 0)
	// Dividing Max cannot overflow. Doubling Initial could, and the wait would
	// be zero.
	if doublings := max(n, 1) - 1; b.Initial <= wait>>doublings {
		wait = b.Initial << doublings
	}
	wait = max(wait, 0)
	return max(wait-rand.N(wait/2+1), b.Initial) //nolint:gosec // spreading load needs no secrecy
}
