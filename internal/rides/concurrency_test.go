package rides

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/internal/web"
	"github.com/rocketrides/rocketrides/proof/wire"
)

func TestRaces(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for _, width := range []int{2, 8, 50, 64} {
		key := fmt.Sprint("race-", width)
		answers := make(chan reply, width)
		var group sync.WaitGroup
		for range width {
			group.Go(func() { answers <- h.hailAs(t, h.visa, key) })
		}
		group.Wait()
		close(answers)
		var bodies []string
		for r := range answers {
			switch {
			case r.status == 201:
				bodies = append(bodies, r.body)
			case r.status != 409 || r.problem.Code != web.CodeIdempotencyKeyInUse || r.header.Get("Retry-After") == "":
				t.Errorf("%d at once: got %d %s", width, r.status, r.body)
			}
		}
		for _, body := range bodies {
			if body != bodies[0] {
				t.Errorf("%d at once: two answers: %s and %s", width, bodies[0], body)
			}
		}
		h.hailAs(t, h.visa, key).must(t, 201, "")
		h.checkCharged(t, h.visa, key)
	}
	if n := len(h.fake.Ledger()); n != 4 {
		t.Errorf("Stripe was asked %d times, want 4", n)
	}
}

func TestInUse(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	reached, release := h.holdCharge(t)
	done := make(chan reply)
	go func() { done <- h.hailAs(t, h.visa, "k") }()
	reached()
	r := h.hailAs(t, h.visa, "k").must(t, 409, web.CodeIdempotencyKeyInUse)
	if r.header.Get("Retry-After") == "" || !r.problem.Retryable {
		t.Errorf("the refusal is %s with %v", r.body, r.header)
	}
	release()
	(<-done).must(t, 201, "")
}

// TestObeyingOutlivesADeadWorker: a client that waits as long as it is told
// gets its ride before it gives up, after eight times, although the worker died
// with a lease of 30 seconds. The waits are taken from the lease.
func TestObeyingOutlivesADeadWorker(t *testing.T) {
	t.Parallel()
	const lease = 30 * time.Second
	h := newHarness(t, func(c *phases.Config) { c.Lease = lease })
	h.fake.Script(fakestripe.Fault{Kind: fakestripe.DropAfter})
	h.hailAs(t, h.visa, "k").must(t, 503, web.CodePaymentProcessorUnavailable)
	left := lease
	hold := func() {
		h.exec(t, `UPDATE idempotency_keys SET lease_token = $1, claimed_at = now() - $2 * interval '1 second',
			leased_until = now() + $3 * interval '1 second'`, uuid.New(), (lease - left).Seconds(), left.Seconds())
	}
	hold()
	var waits []int
	for {
		r := h.hailAs(t, h.visa, "k")
		if r.status == 201 {
			break
		}
		wait, err := strconv.Atoi(r.must(t, 409, web.CodeIdempotencyKeyInUse).header.Get("Retry-After"))
		if err != nil || wait < 1 || len(waits) == 8 {
			t.Fatalf("Retry-After is %q, after waits of %d seconds", r.header.Get("Retry-After"), waits)
		}
		waits = append(waits, wait)
		left -= time.Duration(wait) * time.Second
		hold()
	}
	if len(waits) < 4 {
		t.Errorf("it asked only after %d seconds each, and could have had its ride sooner", waits)
	}
	h.checkCharged(t, h.visa, "k")
}

// TestAsyncAtOnce: of requests that come together one inserts the key's row, and
// the others find none yet. All are told that the ride goes on.
func TestAsyncAtOnce(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	_, release := h.holdCharge(t)
	defer release()
	async := call{method: "POST", path: "/v1/rides", body: aRide, key: "k", as: h.visa, header: http.Header{"Prefer": {"respond-async"}}}
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if got := h.send(t, async); got.status != http.StatusAccepted {
				t.Errorf("answered %d %s", got.status, got.body)
			}
		})
	}
	group.Wait()
}

func TestAsync(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string][]setting{"fused": nil, "stepwise": {stepwise}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, settings...)
			reached, release := h.holdCharge(t)
			async := call{method: "POST", path: "/v1/rides", body: aRide, key: "k", as: h.visa, header: http.Header{"Prefer": {"wait=0, Respond-Async"}}}
			first := h.send(t, async).must(t, 202, "")
			if first.ride.Status != StatusPending || first.ride.Charge != nil || first.header.Get("Preference-Applied") != "respond-async" ||
				first.header.Get("Location") != "/v1/rides/"+first.ride.ID || first.header.Get("Vary") != "Prefer" {
				t.Errorf("202 is %s with %v", first.body, first.header)
			}
			reached()
			if again := h.send(t, async).must(t, 202, ""); again.body != first.body {
				t.Errorf("a retry gives %s, the first answer was %s", again.body, first.body)
			}
			h.send(t, call{method: "GET", path: first.header.Get("Location"), as: h.visa}).must(t, 200, "")
			h.hailAs(t, h.visa, "k").must(t, 409, web.CodeIdempotencyKeyInUse)
			release()
			pgtest.Eventually(t, "the ride is charged", func() bool { return h.send(t, async).status == 201 })
			if final := h.send(t, async).must(t, 201, ""); final.header.Get("Idempotent-Replayed") != "true" {
				t.Error("the final answer is not a replay")
			}
			h.checkCharged(t, h.visa, "k")
		})
	}

	t.Run("an abandoned key is 202 with respond-async, and resumed without", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		h.fake.Script(fakestripe.Fault{Kind: fakestripe.DropAfter, Times: 2})
		async := call{method: "POST", path: "/v1/rides", body: aRide, key: "k", as: h.visa, header: http.Header{"Prefer": {"respond-async"}}}
		h.send(t, async).must(t, 202, "")
		pgtest.Eventually(t, "the first attempt has let the key go", func() bool { return !h.key(t, h.visa, "k").Leased })
		h.send(t, async).must(t, 202, "")
		pgtest.Eventually(t, "the second attempt has let the key go", func() bool { return !h.key(t, h.visa, "k").Leased })
		h.hailAs(t, h.visa, "k").must(t, 201, "")
		h.checkCharged(t, h.visa, "k")
	})
}

func TestTheClientGoesAway(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	reached, release := h.holdCharge(t)
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		request, _ := http.NewRequestWithContext(ctx, http.MethodPost, h.api+"/v1/rides", strings.NewReader(aRide))
		request.Header.Set("Authorization", "Bearer "+h.visa.APIKey.Reveal())
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Idempotency-Key", "k")
		if response, err := http.DefaultTransport.RoundTrip(request); err == nil {
			_ = response.Body.Close()
			t.Error("the client got an answer")
		}
	}()
	reached()
	cancel()
	<-gone
	release()
	pgtest.Eventually(t, "the key is finished", func() bool { return h.key(t, h.visa, "k").FinishedAt != nil })
	h.checkCharged(t, h.visa, "k")
}

// TestAZombieAnswersFromTheRow: a worker whose lease ended during its call
// changes nothing, and answers with what the completer stored.
func TestAZombieAnswersFromTheRow(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	asleep, wake := make(chan struct{}), make(chan struct{})
	h.hailAs(t, h.visa, "warm").must(t, 201, "")
	h.wire.Plan(wire.On(3, wire.Fault{Kind: wire.HoldBefore, Hold: func() { close(asleep); <-wake }}))
	done := make(chan reply)
	go func() { done <- h.hailAs(t, h.visa, "k") }()
	<-asleep
	h.expire(t)
	if counts := h.complete(t); counts.Finished != 1 {
		t.Fatalf("the completer did %+v", counts)
	}
	other := h.startProcess(t, nil)
	stored := other.hailAs(t, h.visa, "k").must(t, 201, "")
	writer := number(t, h, `SELECT xmin::text::int FROM idempotency_keys WHERE key = 'k'`)
	close(wake)
	zombie := (<-done).must(t, 201, "")
	if zombie.body != stored.body {
		t.Errorf("the zombie answered %s, stored is %s", zombie.body, stored.body)
	}
	if got := number(t, h, `SELECT xmin::text::int FROM idempotency_keys WHERE key = 'k'`); got != writer {
		t.Error("the zombie changed the key")
	}
	h.checkCharged(t, h.visa, "k")
}
