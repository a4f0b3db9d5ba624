package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"sync"
	"time"
)

// Retry says when a request is sent again. The zero value means the defaults.
type Retry struct {
	// Max is how many times a call sends its request again. 0 means 8, with
	// which a call outlives the lease of a server that died. A negative number
	// means never.
	Max int
	// Initial is the first pause, and the shortest. 0 means a second.
	Initial time.Duration
	// MaxPause is the longest pause. If the API asks for a longer one, the call
	// returns its Problem at once. 0 means 30 seconds.
	MaxPause time.Duration
	// Budget bounds the retries of all calls together. nil means one for this
	// client, of 100 retries and a fifth of one for each call.
	Budget *Budget
}

func (r Retry) withDefaults() (Retry, error) {
	r.Max, r.Initial, r.MaxPause = cmp.Or(r.Max, 8), cmp.Or(r.Initial, time.Second), cmp.Or(r.MaxPause, 30*time.Second)
	if r.Budget == nil {
		r.Budget = NewBudget(100, 0.2)
	}
	if r.Initial < 0 || r.MaxPause < r.Initial {
		return r, errors.New("client: Config.Retry needs a positive Initial, and a MaxPause that is not shorter")
	}
	return r, nil
}

// pauseAfter returns the pause after the n-th failure in a row, n counting from
// 1: min(Initial·2^(n−1), MaxPause) times a random factor in [0.5, 1], but
// never less than Initial. The random factor keeps clients that failed together
// from coming back together.
func (r Retry) pauseAfter(n int) time.Duration {
	wait := r.MaxPause
	// Dividing cannot overflow, as doubling Initial could.
	if doublings := n - 1; r.Initial <= wait>>doublings {
		wait = r.Initial << doublings
	}
	return max(wait-rand.N(wait/2+1), r.Initial) //nolint:gosec // spreading load needs no secrecy
}

// A Budget bounds the retries of all calls of one or several clients, so that
// an API that is down does not get several times its usual load. Each retry
// takes 1 from it; each call that ends with an answer gives a share back. When
// it is empty, calls return their first failure. It is safe for concurrent use.
type Budget struct {
	most, share float64

	mu   sync.Mutex
	left float64
}

// NewBudget returns a full budget: most is how many retries it allows at once,
// and share how many each answered call adds, up to most. With a share of 0.2
// there is, in the long run, no more than one retry for five calls.
func NewBudget(most int, share float64) *Budget {
	return &Budget{most: float64(most), share: share, left: float64(most)}
}

// take takes a retry, and reports whether there was one.
func (b *Budget) take() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}

// answered gives the share of a call back.
func (b *Budget) answered() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left = min(b.left+b.share, b.most)
}

type downstreamKey struct{}

// Downstream returns a context whose calls send each request once and leave
// retries to the origin: whoever began what this process only takes part in,
// and will begin it again. Retries in every service on the way would multiply.
// The origin must repeat its request with the same key, from which this process
// derives or takes its own. A server marks the contexts of requests that it
// knows to be repeated by their sender:
//
//	ctx := r.Context()
//	if r.Header.Get("Idempotency-Key") != "" {
//		ctx = client.Downstream(ctx)
//	}
func Downstream(ctx context.Context) context.Context {
	return context.WithValue(ctx, downstreamKey{}, true)
}

func isDownstream(ctx context.Context) bool { return ctx.Value(downstreamKey{}) != nil }

// another returns the pause before the request is sent for the n+1-th time. If
// why is not "", it is not sent again, and that is why.
func (c *Client) another(ctx context.Context, n int, failure error) (pause time.Duration, why string) {
	pause = c.retry.pauseAfter(n)
	if problem, ok := errors.AsType[*Problem](failure); ok {
		if problem.Code == CodePaymentUnderReview {
			return 0, "a person decides"
		}
		if problem.RetryAfter > c.retry.MaxPause {
			return 0, "Retry-After is " + problem.RetryAfter.String()
		}
		pause = cmp.Or(problem.RetryAfter, pause)
	}
	deadline, bounded := ctx.Deadline()
	switch {
	case isDownstream(ctx):
		return 0, "only the origin retries"
	case n > c.retry.Max:
		return 0, "no retries are left"
	case bounded && time.Until(deadline) < pause:
		return 0, "the context ends first"
	case !c.retry.Budget.take():
		return 0, "the budget for retries is used up"
	}
	return pause, ""
}

// mayChange reports whether the same request with the same key may have another
// outcome. Without an answer it may, unless the server is not who it should be.
func mayChange(failure error) bool {
	if problem, ok := errors.AsType[*Problem](failure); ok {
		return problem.Retryable
	}
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](failure)
	return !untrusted
}
