package payments

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/rocketrides/rocketrides/internal/phases"
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

// A request that was not sent, because its turn came too late: too many others
// were waiting, or the window of its send was over by then.
var (
	errNoTurn     = errors.New("too many requests to Stripe are waiting")
	errWindowOver = errors.New("its window is over")
)

// A throttle keeps this process within its share of Stripe's limits. Where more
// is to be sent than may be, everybody gets a turn: the endpoints of Stripe's
// one after the other; at one endpoint the clients' requests, the completer and
// the rest; and of each of these the accounts. What an account sends to an
// endpoint goes in the order in which it came. So neither a flood of new rides
// nor a back-log of old ones nor one account holds up the others.
//
// It halves the rate after a 429, and raises it little by little: so the
// processes that share an account of Stripe's make room for each other.
type throttle struct {
	all   *lane
	share float64 // of Stripe's limits

	mu        sync.Mutex
	endpoints map[string]*lane
	parties   map[party]*queue // those of whom somebody waits
}

// newThrottle returns the throttle of a config, or nil for no limit.
func newThrottle(config Config) *throttle {
	full := float64(testRate)
	if isLive(config.Key) {
		full = liveRate
	}
	mine := config.Rate
	if mine == 0 {
		if !IsStripe(config.URL) {
			return nil
		}
		mine = full
	}
	return &throttle{all: newLane(mine), share: mine / full, endpoints: map[string]*lane{}, parties: map[party]*queue{}}
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
// leaves: the other half is Stripe's. The engine's ctx of a send ends with its
// window. After the wait the window is looked at again: the timer of a ctx
// stands still while the machine is suspended.
func (t *throttle) wait(ctx context.Context, call string, caller phases.Caller) error {
	if t == nil {
		return nil
	}
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)/2)
		defer cancel()
	}
	err := t.waitAmong(ctx, partiesOf(call, caller), func() error { return t.endpoint(call).wait(ctx, t.all) })
	if err == nil && caller.MaySend != nil && !caller.MaySend() {
		err = errWindowOver
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errNoTurn, err)
	}
	return nil
}

// A party is one of those who take turns at an endpoint. The account is empty
// for a whole kind of callers.
type party struct{ call, kind, account string }

// partiesOf returns the parties that a caller belongs to, the smaller one
// first.
func partiesOf(call string, caller phases.Caller) []party {
	switch {
	case caller.Account == "":
		return []party{{call, "others", ""}}
	case caller.Background:
		return []party{{call, "completer", caller.Account}, {call, "completer", ""}}
	default:
		return []party{{call, "clients", caller.Account}, {call, "clients", ""}}
	}
}

// A queue is that of a party. One of those who wait in it waits in the next
// larger queue on behalf of the party, and then goes to the end of that one.
type queue struct {
	turn  chan struct{} // has room for the one whose turn it is
	users int
}

// waitAmong waits for a turn in each of the queues, and then calls next.
func (t *throttle) waitAmong(ctx context.Context, parties []party, next func() error) error {
	if len(parties) == 0 {
		return next()
	}
	q := t.join(parties[0])
	defer t.leave(parties[0], q)
	select {
	case q.turn <- struct{}{}: // those who wait to send are served in the order in which they came
		defer func() { <-q.turn }()
		return t.waitAmong(ctx, parties[1:], next)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (t *throttle) join(p party) *queue {
	t.mu.Lock()
	defer t.mu.Unlock()
	q := t.parties[p]
	if q == nil {
		q = &queue{turn: make(chan struct{}, 1)}
		t.parties[p] = q
	}
	q.users++
	return q
}

func (t *throttle) leave(p party, q *queue) {
	t.mu.Lock()
	defer t.mu.Unlock()
	q.users--
	if q.users == 0 {
		delete(t.parties, p)
	}
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

// newLane returns a lane for most requests a second. They are sent at
// intervals, and one less a second: so no second, wherever it begins, sees more
// than most.
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
