package payments

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// sendAll has many senders ask for turns at once, for d, and returns when each
// got one.
func sendAll(ctx context.Context, th *throttle, call string, senders int, d time.Duration) []time.Time {
	var mu sync.Mutex
	var sent []time.Time
	var group sync.WaitGroup
	end := time.Now().Add(d)
	for range senders {
		group.Go(func() {
			for time.Now().Before(end) {
				if th.wait(ctx, call, phases.Caller{}) == nil {
					mu.Lock()
					sent = append(sent, time.Now())
					mu.Unlock()
				}
			}
		})
	}
	group.Wait()
	slices.SortFunc(sent, time.Time.Compare)
	return sent
}

// busiest returns the most that were sent within one second.
func busiest(sent []time.Time) (most int) {
	for i := range sent {
		n, _ := slices.BinarySearchFunc(sent, sent[i].Add(time.Second), time.Time.Compare)
		most = max(most, n-i)
	}
	return most
}

// No second sees more than Stripe's limits, wherever it begins, and in a minute
// not much less is sent.
func TestStripeNeverSeesMoreThanItsLimits(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		config      Config
		calls       []string
		each, inAll int
	}{
		"live":         {Config{Key: "sk_live_1"}, []string{"a", "b", "c", "d", "e", "f"}, 25, 100},
		"live, a part": {Config{Key: "sk_live_1", Rate: 40}, []string{"a"}, 10, 40},
		"test":         {Config{Key: "sk_test_1"}, []string{"a", "b"}, 25, 25},
		"own URL, set": {Config{Key: "sk_test_1", URL: "http://127.0.0.1:1", Rate: 50}, []string{"a", "b"}, 50, 50},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				th := newThrottle(test.config)
				var mu sync.Mutex
				var all []time.Time
				var group sync.WaitGroup
				for _, call := range test.calls {
					group.Go(func() {
						sent := sendAll(t.Context(), th, call, 20, time.Minute)
						mu.Lock()
						defer mu.Unlock()
						all = append(all, sent...)
						if got := busiest(sent); got > test.each {
							t.Errorf("%s: %d in a second, want at most %d", call, got, test.each)
						}
						// No endpoint is held up by another one.
						fair := min(60*test.each, 60*test.inAll/len(test.calls)) * 85 / 100
						if len(sent) < fair {
							t.Errorf("%s: %d in a minute, want at least %d", call, len(sent), fair)
						}
					})
				}
				group.Wait()
				slices.SortFunc(all, time.Time.Compare)
				if got := busiest(all); got > test.inAll {
					t.Errorf("%d in a second, want at most %d", got, test.inAll)
				}
			})
		})
	}
	if newThrottle(Config{Key: "sk_test_1", URL: "http://127.0.0.1:1"}) != nil {
		t.Error("a Stripe of one's own has a limit that nobody has set")
	}
}

// A request waits for its turn at most half of its time. Then it was certainly
// not sent.
func TestARequestDoesNotWaitForLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		th := newThrottle(Config{Key: "sk_test_1", Rate: 2})
		var group sync.WaitGroup
		var sent atomic.Int32
		start := time.Now()
		for range 100 {
			group.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				err := th.wait(ctx, "a", phases.Caller{})
				if took := time.Since(start); took > 5*time.Second {
					t.Errorf("it waited for %s", took)
				}
				if err == nil {
					sent.Add(1)
				} else if !errors.Is(err, errNoTurn) {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if n := sent.Load(); n < 5 || n > 10 {
			t.Errorf("%d were sent in 5 s, want 2 a second at most", n)
		}
	})
}

// A send waits for its turn within the time that the engine gives it, which
// ends with the window of the send. If the turn doesn't come in time, nothing
// is sent, and the engine is told so. A 429 halves the rate.
func TestASendWhoseTurnComesTooLateIsNotMade(t *testing.T) {
	t.Parallel()
	server := newStripeServer(t, map[string][]http.HandlerFunc{routeCreate: {func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = io.WriteString(w, `{"error":{"type":"invalid_request_error","code":"rate_limit","message":"slow down"}}`)
	}}})
	client, _ := server.client(t, func(c *Config) { c.Rate = 0.2 })
	before := client.throttle.all.rate()
	for i, sends := range []int{1, 1} {
		window, cancel := context.WithTimeout(t.Context(), 2*time.Second) // the next turn is in 10 s
		defer cancel()
		_, err := client.Charge(window, firstSend())
		failed, ok := errors.AsType[*phases.CallError](err)
		if !ok || failed.Class != phases.Transient {
			t.Errorf("charge %d: %v, want one that was certainly not made", i+1, err)
		}
		if errors.Is(err, errNoTurn) != (i == 1) {
			t.Errorf("charge %d: %v", i+1, err)
		}
		if got := len(server.received(routeCreate)); got != sends {
			t.Errorf("after charge %d Stripe has seen %d sends, want %d", i+1, got, sends)
		}
	}
	slow := newThrottle(Config{Key: testKey})
	slow.slow(callCharge)
	if got := slow.all.rate(); got > 13 || slow.endpoint(callCharge).rate() > 13 {
		t.Errorf("after a 429 the rate is %.1f a second, want half of 24", got)
	}
	if client.throttle.all.rate() > before {
		t.Error("a 429 raises the rate")
	}
}

// A flood of new rides, a back-log of the completer's, and one account that
// sends far more than all others hold up nobody else.
func TestTurnsAreShared(t *testing.T) {
	t.Parallel()
	flood := phases.Caller{Account: "acct_flood"}
	backlog := phases.Caller{Account: "acct_flood", Background: true}
	for name, test := range map[string]struct {
		queued []phases.Caller // a thousand of each are waiting
		caller phases.Caller
		most   int // turns until the caller's
	}{
		"an account behind another one":        {[]phases.Caller{flood}, phases.Caller{Account: "acct_1"}, 2},
		"new rides behind the completer":       {[]phases.Caller{backlog}, phases.Caller{Account: "acct_1"}, 2},
		"the completer behind new rides":       {[]phases.Caller{flood}, phases.Caller{Account: "acct_1", Background: true}, 2},
		"the same account's ride":              {[]phases.Caller{backlog}, flood, 2},
		"a look for events behind all":         {[]phases.Caller{flood, backlog}, phases.Caller{}, 3},
		"an account behind another's and more": {[]phases.Caller{flood, backlog}, phases.Caller{Account: "acct_1"}, 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				th := newThrottle(Config{Key: "sk_test_1"})
				ctx, cancel := context.WithCancel(t.Context())
				var sent atomic.Int32
				var group sync.WaitGroup
				for range 1000 {
					for _, caller := range test.queued {
						group.Go(func() {
							if th.wait(ctx, "a", caller) == nil {
								sent.Add(1)
							}
						})
					}
				}
				synctest.Wait()
				before := sent.Load()
				if err := th.wait(ctx, "a", test.caller); err != nil {
					t.Error(err)
				}
				if turns := int(sent.Load()-before) + 1; turns > test.most {
					t.Errorf("it had turn %d, want at most %d", turns, test.most)
				}
				cancel()
				group.Wait()
				if len(th.parties) > 0 {
					t.Errorf("%d parties are remembered when nobody waits", len(th.parties))
				}
			})
		})
	}
}

// New rides get half of the turns and the completer the other half, and each
// account the same share of these, however many wait.
func TestEverybodyGetsTheSameShare(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		th := newThrottle(Config{Key: "sk_test_1"})
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // of which it waits for half
		defer cancel()
		callers := []struct {
			phases.Caller

			waiting, parts int
			sent           atomic.Int32
		}{
			{Caller: phases.Caller{Account: "acct_1"}, waiting: 2000, parts: 1},
			{Caller: phases.Caller{Account: "acct_2"}, waiting: 1000, parts: 1},
			{Caller: phases.Caller{Account: "acct_1", Background: true}, waiting: 2000, parts: 2},
		}
		var group sync.WaitGroup
		for i := range callers {
			c := &callers[i]
			for range c.waiting {
				group.Go(func() {
					if th.wait(ctx, "a", c.Caller) == nil {
						c.sent.Add(1)
					}
				})
			}
		}
		group.Wait()
		for i := range callers {
			c := &callers[i]
			want := 60 * (testRate - 1) * c.parts / 4
			if got := int(c.sent.Load()); got < want*95/100 || got > want*105/100 {
				t.Errorf("%+v got %d turns, want %d", c.Caller, got, want)
			}
		}
	})
}

// The window is looked at again after the wait.
func TestTheWindowMayEndDuringTheWait(t *testing.T) {
	t.Parallel()
	th := newThrottle(Config{Key: "sk_test_1"})
	for _, open := range []bool{true, false} {
		err := th.wait(t.Context(), "a", phases.Caller{Account: "acct_1", MaySend: func() bool { return open }})
		if (err == nil) != open || !open && !errors.Is(err, errWindowOver) {
			t.Errorf("in the window: %v; it was told %v", open, err)
		}
	}
}
