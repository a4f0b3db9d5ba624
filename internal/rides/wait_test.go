package rides

import (
	"context"
	"fmt"
	"net/http"
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

// prefer is the header of a client that prefers something.
func prefer(what string) http.Header { return http.Header{"Prefer": {what}} }

// hailCall is the usual ride, hailed with preferences.
func (h *harness) hailCall(key, preferences string) call {
	return call{method: "POST", path: "/v1/rides", body: aRide, key: key, as: h.visa, header: prefer(preferences)}
}

// getCall reads the ride of a key, with preferences.
func (h *harness) getCall(key, preferences string) call {
	return call{method: "GET", path: ridePath(rideID(h.visa.AccountID, key)), as: h.visa, header: prefer(preferences)}
}

// inBackground makes a call, and returns a function that waits for its answer.
func (p *process) inBackground(t *testing.T, c call) (answer func() reply) {
	t.Helper()
	got := make(chan reply, 1)
	go func() { got <- p.send(t, c) }()
	return func() reply { return <-got }
}

// waiting waits until so many clients wait in the process.
func (p *process) waiting(t *testing.T, want int) {
	t.Helper()
	pgtest.Eventually(t, "the clients wait", func() bool {
		w := p.service.watcher
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.waiting == want && len(w.watches) == want
	})
}

// lasted fails the test if a wait of 30 seconds ended by its time.
func lasted(t *testing.T, start time.Time) {
	t.Helper()
	if took := time.Since(start); took > 29*time.Second {
		t.Errorf("the waits took %s: nothing ended them before their time", took)
	}
}

// TestARetryWaitsForTheAnswer: of requests with a key that is in use, those
// that prefer to wait get its answer as a replay, in the process that works on
// the key as in another; those that don't are told at once that it is in use.
func TestARetryWaitsForTheAnswer(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	another := h.startProcess(t, nil)
	reached, release := h.holdCharge(t)
	start := time.Now()
	first := h.inBackground(t, h.hailCall("k", "wait=30"))
	reached()
	var waiting []func() reply
	for range 5 {
		waiting = append(waiting, h.inBackground(t, h.hailCall("k", "wait=30")), another.inBackground(t, h.hailCall("k", "wait=60")))
	}
	h.waiting(t, 5)
	another.waiting(t, 5)
	inUse := h.send(t, h.hailCall("k", "")).must(t, 409, web.CodeIdempotencyKeyInUse)
	if inUse.header.Get("Preference-Applied") != "" {
		t.Errorf("a request without preferences is answered %v", inUse.header)
	}
	release()
	made := first().must(t, 201, "")
	if made.header.Get("Preference-Applied") != "" || made.header.Get("Idempotent-Replayed") != "" {
		t.Errorf("the request that was carried out is answered %v", made.header)
	}
	for _, answer := range waiting {
		r := answer().must(t, 201, "")
		if r.body != made.body || r.header.Get("Idempotent-Replayed") != "true" || r.header.Get("Preference-Applied") != "wait=30" || r.header.Get("Vary") != "Prefer" {
			t.Errorf("a request that waited is answered %v %s", r.header, r.body)
		}
	}
	lasted(t, start)
	h.waiting(t, 0)
	h.checkCharged(t, h.visa, "k")
}

// TestAWaitEndsWithoutAnAnswer: when its time is over, a request is answered as
// if it had come then.
func TestAWaitEndsWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	reached, release := h.holdCharge(t)
	defer release()
	async := h.inBackground(t, h.hailCall("k", "respond-async, wait=1"))
	reached()
	if r := async().must(t, 202, ""); r.header.Get("Preference-Applied") != "respond-async, wait=1" || r.ride.Status != StatusPending ||
		r.header.Get("Location") != ridePath(r.ride.ID) {
		t.Errorf("202 is %v %s", r.header, r.body)
	}
	for c, want := range map[*call]reply{
		{header: prefer("wait=1")}:                {status: 409, problem: web.Problem{Code: web.CodeIdempotencyKeyInUse}},
		{header: prefer("wait=1, respond-async")}: {status: 202},
	} {
		start := time.Now()
		retry := h.hailCall("k", c.header.Get("Prefer"))
		r := h.send(t, retry).must(t, want.status, want.problem.Code)
		if took := time.Since(start); took < time.Second {
			t.Errorf("%v was answered after %s", c.header, took)
		}
		if r.status == 409 && (r.header.Get("Preference-Applied") != "wait=1" || r.header.Get("Retry-After") == "") {
			t.Errorf("409 is %v", r.header)
		}
	}
	start := time.Now()
	r := h.send(t, h.getCall("k", "wait=1")).must(t, 200, "")
	if took := time.Since(start); took < time.Second || r.ride.Status != StatusPending || r.header.Get("Preference-Applied") != "wait=1" || r.header.Get("Vary") != "Accept, Prefer" {
		t.Errorf("after %s the ride is %s with %v", took, r.body, r.header)
	}
}

// TestANewRideIsAnsweredWhenItEndsInTime: with respond-async and wait a new
// ride is answered like one without both, if it ends in time. That is no
// replay.
func TestANewRideIsAnsweredWhenItEndsInTime(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	start := time.Now()
	r := h.send(t, h.hailCall("k", "respond-async, wait=30")).must(t, 201, "")
	if r.header.Get("Preference-Applied") != "wait=30" || r.header.Get("Idempotent-Replayed") != "" || r.ride.Status != StatusCharged {
		t.Errorf("201 is %v %s", r.header, r.body)
	}
	again := h.send(t, h.hailCall("k", "respond-async, wait=30")).must(t, 201, "")
	if again.body != r.body || again.header.Get("Idempotent-Replayed") != "true" || again.header.Get("Preference-Applied") != "" {
		t.Errorf("the retry is %v %s", again.header, again.body)
	}
	declined := h.hailCall("k", "wait=30,respond-async")
	declined.as = h.declined
	h.send(t, declined).must(t, 402, web.CodeCardDeclined)
	lasted(t, start)
	h.checkCharged(t, h.visa, "k")
}

// TestAnAsyncWaitLeavesTheKeyToTheCompleter: an attempt that fails is not made
// again and again by the client that waits for it. It waits until the completer
// has brought the key to its end, or it is parked.
func TestAnAsyncWaitLeavesTheKeyToTheCompleter(t *testing.T) {
	t.Parallel()
	h := newHarness(t, func(c *phases.Config) { c.Backoff = phases.Backoff{Initial: time.Hour, Max: time.Hour} })
	h.fake.Script(fakestripe.Fault{Kind: fakestripe.DropBefore, Times: 2})
	start := time.Now()
	charged := h.inBackground(t, h.hailCall("charged", "respond-async, wait=30"))
	pgtest.Eventually(t, "the first attempt at the ride has failed", func() bool { return h.failed(t, "charged") })
	parked := h.inBackground(t, h.hailCall("parked", "respond-async, wait=30"))
	pgtest.Eventually(t, "the first attempt at the parked ride has failed", func() bool { return h.failed(t, "parked") })
	h.waiting(t, 2)
	if err := (phases.Keys{Pool: h.pool}).Park(t.Context(), h.key(t, h.visa, "parked"), "ann"); err != nil {
		t.Fatal(err)
	}
	parked().must(t, 409, web.CodePaymentUnderReview)
	if n := len(h.fake.Ledger()); n != 2 {
		t.Errorf("Stripe was asked %d times, want once for each ride", n)
	}
	h.expire(t)
	h.complete(t)
	if r := charged().must(t, 201, ""); r.header.Get("Idempotent-Replayed") != "" {
		t.Error("the answer to the request that made the key is marked as a replay")
	}
	lasted(t, start)
}

// TestADatabaseThatIsAwayEndsNoAsyncWait: a ride was accepted, and then Postgres
// is away for longer than a statement is run again. The client goes on waiting,
// as it was told that it may.
func TestADatabaseThatIsAwayEndsNoAsyncWait(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	gate := make(chan struct{})
	h.fake.Script(fakestripe.Fault{Kind: fakestripe.Delayed, HoldAfter: gate})
	answer := h.inBackground(t, h.hailCall("k", "respond-async, wait=30"))
	h.waiting(t, 1)
	h.wire.Plan(func(int, []byte) wire.Fault { return wire.Fault{Kind: wire.CutBefore} })
	close(gate)
	pgtest.Eventually(t, "the client has looked in vain", func() bool {
		w := h.service.watcher
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.watches) == 0
	})
	pgtest.Eventually(t, "the client waits again, or has its answer", func() bool {
		w := h.service.watcher
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.watches) == 1 || w.waiting == 0
	})
	h.wire.Plan(wire.Nothing)
	h.expire(t)
	h.complete(t)
	if r := answer(); r.status != http.StatusCreated && r.status != http.StatusAccepted { // 202 if its time was over meanwhile
		t.Errorf("the client gets %d %s", r.status, r.body)
	}
	h.checkCharged(t, h.visa, "k")
}

// failed reports whether an attempt has failed and released the key.
func (h *harness) failed(t *testing.T, key string) bool {
	t.Helper()
	return number(t, h, `SELECT count(*) FROM idempotency_keys WHERE key = $1 AND attempts = 1 AND leased_until IS NULL AND last_error IS NOT NULL`, key) == 1
}

// TestAWaitTakesOverAnAbandonedKey: a synchronous request that waits for a
// worker that is dead goes on with the key when its lease has ended.
func TestAWaitTakesOverAnAbandonedKey(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.fake.Script(fakestripe.Fault{Kind: fakestripe.DropAfter})
	h.hailAs(t, h.visa, "k").must(t, 503, web.CodePaymentProcessorUnavailable)
	h.exec(t, `UPDATE idempotency_keys SET lease_token = $1, leased_until = now() + interval '1 hour'`, uuid.New())
	start := time.Now()
	answer := h.inBackground(t, h.hailCall("k", "wait=30"))
	h.waiting(t, 1)
	h.expire(t)
	answer().must(t, 201, "")
	lasted(t, start)
	h.checkCharged(t, h.visa, "k")
}

// TestGETWaitsUntilTheRideIsAtRest: for each way in which a ride can come to
// rest, and for none that isn't rest.
func TestGETWaitsUntilTheRideIsAtRest(t *testing.T) {
	t.Parallel()
	const charge = `UPDATE rides SET status = 'charged', charge_id = 'ch_' || key, payment_intent_id = 'pi_' || key WHERE key = $1`
	const refund = `UPDATE rides SET status = 'charged', charge_id = 'ch_' || key, payment_intent_id = 'pi_' || key,
		refund_id = 're_1', refund_status = 'pending', refund_amount = 1 WHERE key = $1`
	h := newHarness(t)
	h.fake.Script(fakestripe.Fault{Kind: fakestripe.DropBefore, Times: -1})
	start := time.Now()
	var group sync.WaitGroup
	for name, test := range map[string]struct {
		changes []string
		want    Status
	}{
		"charged":        {[]string{charge}, StatusCharged},
		"declined":       {[]string{`UPDATE rides SET status = 'declined' WHERE key = $1`}, StatusDeclined},
		"parked":         {[]string{`UPDATE idempotency_keys SET parked_reason = 'x', lease_token = NULL, leased_until = NULL WHERE key = $1`}, StatusUnderReview},
		"refunded":       {[]string{refund, `UPDATE rides SET status = 'canceled', refund_status = 'succeeded' WHERE key = $1`}, StatusCanceled},
		"refund_refused": {[]string{refund, `UPDATE rides SET refund_status = 'failed' WHERE key = $1`}, StatusCharged},
	} {
		group.Go(func() {
			h.hailAs(t, h.visa, name)
			answer := h.inBackground(t, h.getCall(name, "wait=30"))
			for _, change := range test.changes {
				h.watched(t, rideID(h.visa.AccountID, name))
				h.exec(t, change, name)
			}
			r := answer()
			if r.status != 200 || r.ride.Status != test.want || r.header.Get("Preference-Applied") != "wait=30" {
				t.Errorf("%s: got %d %s with %v", name, r.status, r.ride.Status, r.header)
			}
			again := h.send(t, h.getCall(name, "wait=30")) // at once
			if again.body != r.body {
				t.Errorf("%s: a second look shows %s after %s", name, again.body, r.body)
			}
		})
	}
	group.Wait()
	lasted(t, start)
}

// watched waits until a client waits for a ride in the state in which the
// database has it.
func (h *harness) watched(t *testing.T, ride string) {
	t.Helper()
	pgtest.Eventually(t, "a client waits for what the database has", func() bool {
		now, err := h.service.sight(t.Context(), h.visa.AccountID, ride)
		if err != nil {
			t.Error(err)
			return true
		}
		w := h.service.watcher
		w.mu.Lock()
		defer w.mu.Unlock()
		for what := range w.watches {
			if what.Ride == ride && what.Seen == now.state {
				return true
			}
		}
		return false
	})
}

// TestNobodyWaitsForAnothersRide: who waits for an account's ride or key gets
// nothing of another account's, even under the same key.
func TestNobodyWaitsForAnothersRide(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.hailAs(t, h.second, "k").must(t, 201, "")
	theirs := call{method: "GET", path: ridePath(rideID(h.second.AccountID, "k")), as: h.visa, header: prefer("wait=30")}
	start := time.Now()
	h.send(t, theirs).must(t, 404, web.CodeNotFound)
	reached, release := h.holdCharge(t)
	mine := h.inBackground(t, h.hailCall("k", ""))
	reached()
	h.exec(t, `
		INSERT INTO rides (account_id, id, key, status, charge_id, payment_intent_id,
		       origin_lat, origin_lon, target_lat, target_lon, fare_amount, fare_currency, created_at)
		SELECT $1, id, 'copy', 'charged', 'ch_1', 'pi_1', 0, 0, 0, 0, 500, 'usd', now() FROM rides WHERE account_id = $2`,
		h.second.AccountID, h.visa.AccountID)
	waiting := h.inBackground(t, h.hailCall("k", "wait=1"))
	looking := h.inBackground(t, h.getCall("k", "wait=1"))
	waiting().must(t, 409, web.CodeIdempotencyKeyInUse)
	if r := looking().must(t, 200, ""); r.ride.Status != StatusPending {
		t.Errorf("the ride is %s", r.body)
	}
	release()
	mine().must(t, 201, "")
	lasted(t, start)
}

// TestNoMoreWaitThanMay: beyond MaxWaiting requests are answered as if they had
// preferred nothing. Every place is given back.
func TestNoMoreWaitThanMay(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.config.MaxWaiting = 2
	service := NewService(h.config)
	h.service = service
	h.process = h.serving(t, service.Handler())
	reached, release := h.holdCharge(t)
	h.send(t, h.hailCall("k", "respond-async")).must(t, 202, "")
	reached()
	waiting := []func() reply{h.inBackground(t, h.hailCall("k", "wait=30")), h.inBackground(t, h.getCall("k", "wait=30"))}
	h.waiting(t, 2)
	start := time.Now()
	for _, r := range []reply{
		h.send(t, h.hailCall("k", "wait=30")).must(t, 409, web.CodeIdempotencyKeyInUse),
		h.send(t, h.getCall("k", "wait=30")).must(t, 200, ""),
	} {
		if r.header.Get("Preference-Applied") != "" {
			t.Fatalf("a client for whom there is no place is answered %v", r.header)
		}
	}
	if r := h.send(t, h.hailCall("k", "respond-async, wait=30")).must(t, 202, ""); r.header.Get("Preference-Applied") != "respond-async" {
		t.Errorf("an async client for whom there is no place is answered %v", r.header)
	}
	stream := h.getCall("k", "")
	stream.header.Set("Accept", "text/event-stream")
	if r := h.send(t, stream).must(t, 200, ""); r.ride.Status != StatusPending {
		t.Errorf("a stream for which there is no place is %s", r.body)
	}
	release()
	for _, answer := range waiting {
		answer()
	}
	h.waiting(t, 0)
	lasted(t, start)
}

// TestADrainEndsEveryWait: each is answered as if it had not preferred to wait.
func TestADrainEndsEveryWait(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	reached, release := h.holdCharge(t)
	start := time.Now()
	async := h.inBackground(t, h.hailCall("k", "respond-async, wait=30"))
	reached()
	retry, get := h.inBackground(t, h.hailCall("k", "wait=30")), h.inBackground(t, h.getCall("k", "wait=30"))
	stream := h.follow(t, "k")
	h.waiting(t, 4)
	h.service.Drain()
	if r := async().must(t, 202, ""); r.header.Get("Preference-Applied") != "respond-async" {
		t.Errorf("the 202 has %v", r.header)
	}
	if r := retry().must(t, 409, web.CodeIdempotencyKeyInUse); r.header.Get("Preference-Applied") != "" {
		t.Errorf("the 409 has %v", r.header)
	}
	if r := get().must(t, 200, ""); r.ride.Status != StatusPending || r.header.Get("Preference-Applied") != "" {
		t.Errorf("the ride is %s, with %v", r.body, r.header)
	}
	if events := stream.rest(t); len(events) != 1 || events[0].Status != StatusPending {
		t.Errorf("the stream had %v", events)
	}
	h.waiting(t, 0)
	if r := h.send(t, h.getCall("k", "wait=30")).must(t, 200, ""); r.header.Get("Preference-Applied") != "" {
		t.Errorf("a draining process lets a client wait: %v", r.header)
	}
	lasted(t, start)
	release()
}

// TestAWaitingClientHoldsNoConnection: the pool has twelve connections.
func TestAWaitingClientHoldsNoConnection(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	reached, release := h.holdCharge(t)
	first := h.inBackground(t, h.hailCall("k", ""))
	reached()
	var waiting []func() reply
	for range 40 {
		waiting = append(waiting, h.inBackground(t, h.hailCall("k", "wait=30")), h.inBackground(t, h.getCall("k", "wait=30")))
	}
	h.waiting(t, 80)
	for i := range 20 {
		h.hailAs(t, h.visa, fmt.Sprint("other", i)).must(t, 201, "")
	}
	if n := h.config.Pool.Stat().AcquiredConns(); n > 1 { // a poll may be on its way
		t.Errorf("80 waiting clients hold %d connections", n)
	}
	release()
	first().must(t, 201, "")
	for _, answer := range waiting {
		answer()
	}
}

// TestWhoHangsUpWaitsNoMore: its place is free at once, and the log says that
// it is gone.
func TestWhoHangsUpWaitsNoMore(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	reached, release := h.holdCharge(t)
	defer release()
	h.send(t, h.hailCall("k", "respond-async")).must(t, 202, "")
	reached()
	ctx, hangUp := context.WithCancel(t.Context())
	start := time.Now()
	var clients sync.WaitGroup
	for _, c := range []call{h.hailCall("k", "wait=30"), h.hailCall("k", "respond-async, wait=30"), h.getCall("k", "wait=30")} {
		clients.Go(func() {
			if response, err := h.roundTrip(t, h.newRequest(ctx, t, c)); err == nil {
				t.Errorf("a client that hung up got %s", response.Status)
				_ = response.Body.Close()
			}
		})
	}
	h.waiting(t, 3)
	hangUp()
	clients.Wait()
	h.waiting(t, 0)
	lasted(t, start)
}

// TestTheLogTellsWaitingFromWorking: a slow answer that a client preferred is
// not a slow service.
func TestTheLogTellsWaitingFromWorking(t *testing.T) {
	t.Parallel()
	o := newObserved(t)
	reached, release := o.holdCharge(t)
	defer release()
	o.send(t, o.hailCall("k", "respond-async")).must(t, 202, "")
	reached()
	_, line := o.ask(t, o.getCall("k", "wait=3"))
	seconds, _ := line["seconds"].(float64)
	waited, _ := line["waited_seconds"].(float64)
	if waited < 0.5 || seconds < waited { // a slow machine begins to wait late
		t.Errorf("the log has %v", line)
	}
	families, err := o.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "rides_http_request_seconds" {
			if got := family.GetMetric()[0].GetHistogram().GetSampleSum(); got > seconds-waited+0.001 {
				t.Errorf("the metrics have %v seconds of %v, of which %v were waited for", got, seconds, waited)
			}
		}
	}
}
