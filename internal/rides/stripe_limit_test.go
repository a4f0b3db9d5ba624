package rides

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/internal/web"
)

// keepingTo starts a process that sends so many requests a second to Stripe,
// and whose requests may wait long for their turn.
func (h *harness) keepingTo(t *testing.T, rate float64) *process {
	t.Helper()
	h.stripeRate, h.callTimeout = rate, time.Minute
	defer func() { h.stripeRate, h.callTimeout = 0, callTimeout }()
	return h.startProcess(t, nil)
}

// abandon leaves n keys of an account abandoned after a first send that was
// lost, due now.
func (h *harness) abandon(t *testing.T, who accounts.Credentials, n int) {
	t.Helper()
	h.fake.Script(fakestripe.Fault{Kind: fakestripe.DropBefore, Times: n})
	for i := range n {
		h.hailAs(t, who, fmt.Sprint("abandoned-", i)).must(t, 503, web.CodePaymentProcessorUnavailable)
	}
	h.expire(t)
}

// completing runs a completer in a process until the test ends.
func (p *process) completing(t *testing.T, concurrency int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	t.Cleanup(func() { cancel(); group.Wait() })
	completer := phases.Completer{Engine: p.engine, Poll: 10 * time.Millisecond, Concurrency: concurrency, Retention: time.Hour, Tombstones: time.Hour}
	group.Go(func() { completer.Run(ctx) })
}

// hailMany hails n rides of an account at once, and waits until all are
// charged. A client retries as it is told to, only sooner.
func (p *process) hailMany(t *testing.T, who accounts.Credentials, n int) {
	t.Helper()
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() {
			for t.Context().Err() == nil {
				switch r := p.hailAs(t, who, fmt.Sprint("new-", i)); r.status {
				case http.StatusCreated:
					return
				case http.StatusServiceUnavailable, http.StatusConflict:
				default:
					t.Errorf("a ride is answered %d: %s", r.status, r.body)
					return
				}
			}
		})
	}
	group.Wait()
}

// sentFor returns whose charges Stripe was sent, in the order in which they
// came: true for those of an account.
func (h *harness) sentFor(who accounts.Credentials) (mine []bool) {
	for _, send := range h.fake.Ledger() {
		mine = append(mine, send.Params["metadata[account_id]"] == who.AccountID)
	}
	return mine
}

func count(values []bool, want bool) (n int) {
	for _, value := range values {
		if value == want {
			n++
		}
	}
	return n
}

// However much clients and the completer have to send, Stripe never sees more
// than this process's share. The share is much less than the limit, because on a
// busy machine requests may come closer together than they were sent; and such
// a machine may be too slow for all of its share.
func TestStripeSeesNoMoreThanTheShareOfThisProcess(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.abandon(t, h.visa, 40)
	h.fake.Limit(fakestripe.Limits{PerSecond: 45, PerEndpoint: 45})
	p := h.keepingTo(t, 25)
	p.completing(t, 32)
	p.hailMany(t, h.second, 40)
	pgtest.Eventually(t, "every key is finished", func() bool {
		return number(t, h, `SELECT count(*) FROM idempotency_keys WHERE finished_at IS NULL`) == 0
	})
	if seen := h.fake.Traffic(); seen.Refused > 0 || seen.Busiest < 8 {
		t.Errorf("the fake has seen %+v", seen)
	}
	for _, ride := range []string{"abandoned-0", "abandoned-39"} {
		h.checkCharged(t, h.visa, ride)
	}
	h.checkSingleCharges(t)
}

// After a 429 a process sends half as much, and not more at once than then.
func TestA429SlowsTheProcessDown(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	p := h.keepingTo(t, 30)
	h.fake.Script(fakestripe.Fault{Kind: fakestripe.RateLimited429})
	p.hailAs(t, h.visa, "k").must(t, 503, web.CodePaymentProcessorUnavailable)
	h.fake.Limit(fakestripe.Limits{})
	p.hailMany(t, h.second, 36)
	if seen := h.fake.Traffic(); seen.Busiest > 25 { // a busy machine moves some closer together
		t.Errorf("after a 429 a second saw %d requests, want about 16", seen.Busiest)
	}
}

// New rides and the completer get the same share of what may be sent, also when
// the completer was there first.
func TestNewRidesAndTheCompleterShareStripesLimit(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	const abandoned, fresh = 60, 15
	h.abandon(t, h.visa, abandoned)
	p := h.keepingTo(t, 20)
	p.completing(t, 64)
	pgtest.Eventually(t, "Stripe is asked for more than what was abandoned", func() bool { return len(h.fake.Ledger()) > abandoned+2 })
	p.hailMany(t, h.second, fresh)
	sends := h.sentFor(h.second)
	first, last := 0, 0
	for i, mine := range sends {
		if mine && first == 0 {
			first = i
		}
		if mine {
			last = i
		}
	}
	if others := count(sends[first:last], false); others < fresh/5 || others > 3*fresh {
		t.Errorf("while %d new rides were sent, the completer sent %d", fresh, others)
	}
}

// An account that hails far more rides than can be sent delays its own alone.
func TestAnAccountThatHailsTooMuchDelaysNoOther(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	p := h.keepingTo(t, 5)
	const flood = 40
	var group sync.WaitGroup
	var done atomic.Int32
	for i := range flood {
		group.Go(func() {
			p.hailAs(t, h.visa, fmt.Sprint("k", i))
			done.Add(1)
		})
	}
	pgtest.Eventually(t, "every ride of the flood is there", func() bool { return number(t, h, `SELECT count(*) FROM rides`) == flood })
	before := len(h.fake.Ledger())
	p.hailAs(t, h.second, "k").must(t, http.StatusCreated, "")
	if others := len(h.fake.Ledger()) - before - 1; others > 15 || int(done.Load()) == flood {
		t.Errorf("another account's ride waited for %d of %d", others, flood)
	}
	group.Wait()
}

// A send whose turn comes after its window is not made, and what may have been
// charged before is looked up.
func TestASendThatWaitsPastItsWindowIsNotMade(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.abandon(t, h.visa, 1)
	p := h.keepingTo(t, 0.25) // one in eight seconds, to keep a reserve
	p.hailAs(t, h.second, "first-turn").must(t, http.StatusCreated, "")
	h.exec(t, `UPDATE idempotency_keys SET first_sent_at = now() - interval '20 hours' + interval '5 seconds' WHERE key = 'abandoned-0'`)
	p.hailAs(t, h.visa, "abandoned-0").must(t, 503, web.CodePaymentProcessorUnavailable)
	h.exec(t, `UPDATE idempotency_keys SET first_sent_at = now() - interval '20 hours' WHERE key = 'abandoned-0'`)
	pgtest.Eventually(t, "the abandoned key is parked", func() bool { return p.hailAs(t, h.visa, "abandoned-0").status == http.StatusConflict })
	if got := h.key(t, h.visa, "abandoned-0").ParkedReason; got != "window_over" {
		t.Errorf("parked for %q", got)
	}
	if got := count(h.sentFor(h.visa), true); got != 1 {
		t.Errorf("Stripe was sent the charge %d times, want once", got)
	}
}
