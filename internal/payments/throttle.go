package payments

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Stripe's limits in requests a second: of a live account, of a sandbox, and of
// each endpoint. See https://docs.stripe.com/rate-limits.
const (
	liveRate     = 100
	testRate     = 25
	endpointRate = 25
)

// recovery is how long it takes from nothing to the full rate.
const recovery = 20 * time.Second

// errNoTurn means that a request was not sent, because too many others were
// waiting to be sent.
var errNoTurn = errors.New("too many requests to Stripe are waiting")

// A throttle keeps this process within its share of Stripe's limits. Requests to
// one endpoint are sent in the order in which they came, and the endpoints take
// turns, so that no kind of request holds up the others. It halves the rate
// after a 429, and raises it little by little: so the processes that share an
// account make room for each other.
type throttle struct {
	all   *lane
	share float64 // of Stripe's limits

	mu        sync.Mutex
	endpoints map[string]*lane
}

// newThrottle returns the throttle of a config, or nil for no limit.
func newThrottle(config Config) *throttle {
	full := float64(testRate)
	if isLive(config.Key) {
		full = liveRate
	}
	mine := config.Rate
	if mine == 0 {
		if config.URL != "" && strings.TrimSuffix(config.URL, "/") != stripeURL {
			return nil
		}
		mine = full
	}
	return &throttle{all: newLane(mine), share: mine / full, endpoints: map[string]*lane{}}
}

func (t *throttle) endpoint(call string) *lane {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.endpoints[call] == nil {
		t.endpoints[call] = newLane(t.share * endpointRate)
	}
	return t.endpoints[call]
}

// wait waits for a request's turn, but at most for half of the time that ctx
// leaves: the other half is Stripe's. As ctx ends with the window of a send, a
// send whose turn comes later is not made.
func (t *throttle) wait(ctx context.Context, call string) error {
	if t == nil {
		return nil
	}
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)/2)
		defer cancel()
	}
	err := t.endpoint(call).wait(ctx, t.all)
	if err != nil {
		return fmt.Errorf("%w: %w", errNoTurn, err)
	}
	return nil
}

// slow notes that Stripe has refused a request because there were too many.
func (t *throttle) slow(call string) {
	if t != nil {
		t.endpoint(call).slow()
		t.all.slow()
	}
}

// A lane sends requests one after the other.
type lane struct {
	turn  chan struct{} // has room for the one whose turn it is
	limit *rate.Limiter
	full  float64 // requests a second

	mu     sync.Mutex
	base   float64 // the rate after the last 429
	slowed time.Time
}

// newLane returns a lane for most requests a second. They are sent at intervals,
// and one less a second: so no second, wherever it begins, sees more than most.
func newLane(most float64) *lane {
	full := max(most-1, most/2)
	return &lane{turn: make(chan struct{}, 1), limit: rate.NewLimiter(rate.Limit(full), 1), full: full, base: full}
}

// wait waits for its turn in this lane, and then in the next one.
func (l *lane) wait(ctx context.Context, next *lane) error {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	l.limit.SetLimit(rate.Limit(l.rate()))
	if err := l.limit.Wait(ctx); err != nil || next == nil {
		return err
	}
	return next.wait(ctx, nil)
}

// rate returns the rate that is in force.
func (l *lane) rate() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return math.Min(l.full, l.base+l.full*time.Since(l.slowed).Seconds()/recovery.Seconds())
}

// slow halves the rate, at most once a second: the answers to what was on its
// way come together.
func (l *lane) slow() {
	now := l.rate()
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.slowed) >= time.Second {
		l.base, l.slowed = max(now/2, min(1, l.full)), time.Now()
	}
}
