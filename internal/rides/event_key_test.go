package rides

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/internal/web"
)

// TestALateEventBringsAParkedKeyToItsEnd: Stripe didn't know for an hour, and
// then it did.
func TestALateEventBringsAParkedKeyToItsEnd(t *testing.T) {
	t.Parallel()
	for _, shape := range []string{"snapshot", "thin"} {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			h, seen := newHarness(t), 0
			h.parkUnknown(t, "k")
			sent := h.posts()
			h.rollForward(t)
			h.deliverAll(t, &seen, shape)
			if counts := h.work(t); counts.Released != 1 || counts.Worked != 0 {
				t.Fatalf("before the look-up the worker did %+v", counts)
			}
			h.finish(t)
			h.work(t)
			if got := h.outcomes(t); got != "nothing_new" {
				t.Errorf("the event came to %q", got)
			}
			h.hailAs(t, h.visa, "k").must(t, 201, "")
			h.checkCharged(t, h.visa, "k")
			if n := h.posts(); n != sent {
				t.Errorf("%d more charges were sent", n-sent)
			}
			if n := number(t, h, `SELECT count(*) FROM audit_records WHERE action = 'key.unparked' AND data->>'was' = 'stripe_500'`); n != 1 {
				t.Errorf("%d audit records", n)
			}
		})
	}
}

// TestWhatAnEventUnparks: only what can pass by itself, and only if the look-up
// will end it. Nothing is ever sent because of an event.
func TestWhatAnEventUnparks(t *testing.T) {
	t.Parallel()
	h, seen := newHarness(t), 0
	for _, reason := range []string{
		"stripe_500", "window_over", "max_attempts", "operator", "stripe_mismatch", "stripe_unexpected", "stripe_refunded",
		"stripe_more_than_one", "stripe_400", "stripe_403", "stripe_idempotency_error", "stripe_form", "impossible_violation",
	} {
		h.parkUnknown(t, reason)
		h.exec(t, `UPDATE idempotency_keys SET parked_reason = $1, find_reason = NULL, find_until = NULL WHERE key = $1`, reason)
	}
	sent := h.posts()
	h.rollForward(t)
	// This one is refunded meanwhile, which a person must look at.
	h.parkUnknown(t, "given-back")
	h.rollForward(t)
	if _, err := h.fake.DashboardRefund(h.intentOf(t, "given-back"), 0); err != nil {
		t.Fatal(err)
	}
	sent += h.posts() - sent
	h.deliverAll(t, &seen, "snapshot")
	h.work(t)
	h.finish(t)
	unparked := text(t, h, `SELECT string_agg(key, ' ' ORDER BY key) FROM idempotency_keys WHERE finished_at IS NOT NULL AND response_status = 201`)
	if unparked != "max_attempts stripe_500 window_over" {
		t.Errorf("these were brought to their end: %s", unparked)
	}
	if n := number(t, h, `SELECT count(*) FROM idempotency_keys WHERE parked_reason = key OR key = 'given-back' AND parked_reason = 'stripe_500'`); n != 11 {
		t.Errorf("%d keys are parked as before, want 11", n)
	}
	if n := h.posts(); n != sent {
		t.Errorf("%d charges were sent because of events", n-sent)
	}
}

// TestAnEventThatIsNotConclusive: Stripe has begun, and is not done.
func TestAnEventThatIsNotConclusive(t *testing.T) {
	t.Parallel()
	h, seen := newHarness(t), 0
	h.exec(t, `UPDATE accounts SET payment_method = 'pm_fake_processing' WHERE id = $1`, h.visa.AccountID)
	h.parkUnknown(t, "k")
	h.rollForward(t)
	intent := h.intentOf(t, "k")
	h.send(t, signed(event("evt_early", "payment_intent.payment_failed", intent), eventSecret, time.Now())).must(t, 200, "")
	h.work(t)
	if key := h.key(t, h.visa, "k"); key.ParkedReason != "stripe_500" {
		t.Errorf("the key is %+v", key)
	}
	if err := h.fake.Settle(intent); err != nil {
		t.Fatal(err)
	}
	h.deliverAll(t, &seen, "thin")
	h.work(t)
	h.finish(t)
	h.hailAs(t, h.visa, "k").must(t, 201, "")
}

// hailWithoutAnswer hails a ride under the key k, and returns when Stripe has
// charged it. Stripe's answer comes when the gate is closed; the ride's is sent
// to done.
func (h *harness) hailWithoutAnswer(t *testing.T) (done chan reply, gate chan struct{}) {
	t.Helper()
	done, gate = make(chan reply), make(chan struct{})
	h.fake.Script(fakestripe.Fault{Kind: fakestripe.Delayed, HoldAfter: gate})
	go func() { done <- h.hailAs(t, h.visa, "k") }()
	pgtest.Eventually(t, "the event is there", func() bool { return len(h.fake.Events()) == 1 })
	return done, gate
}

// TestALiveWorkerIsNotDisturbed: while Stripe's answer is on its way, its event
// comes. It waits, and the worker goes on under the same claim.
func TestALiveWorkerIsNotDisturbed(t *testing.T) {
	t.Parallel()
	h, seen := newHarness(t), 0
	done, gate := h.hailWithoutAnswer(t)
	for _, shape := range []string{"snapshot", "thin"} {
		h.deliver(t, h.fake.Events()[0].ID, shape)
	}
	before := h.key(t, h.visa, "k")
	for range 3 {
		if counts := h.work(t); counts.Worked != 0 || counts.Released != 1 {
			t.Errorf("while the key is held the worker did %+v", counts)
		}
	}
	if after := h.key(t, h.visa, "k"); after.LeaseEpoch != before.LeaseEpoch || !after.Leased || after.ParkedReason != "" {
		t.Errorf("the key was %+v and is %+v", before, after)
	}
	close(gate)
	(<-done).must(t, 201, "")
	h.told(t, &seen)
	h.work(t)
	if got := h.outcomes(t); got != "nothing_new nothing_new" {
		t.Errorf("the events came to %s", got)
	}
	h.checkCharged(t, h.visa, "k")
}

// TestARefundBeforeTheRideKnowsItsCharge: somebody refunds a part at Stripe
// while the answer to the charge is on its way. The ride shows it in the end.
func TestARefundBeforeTheRideKnowsItsCharge(t *testing.T) {
	t.Parallel()
	h, seen := newHarness(t), 0
	done, gate := h.hailWithoutAnswer(t)
	if _, err := h.fake.DashboardRefund(h.intentOf(t, "k"), 500); err != nil {
		t.Fatal(err)
	}
	h.deliverAll(t, &seen, "snapshot")
	if counts := h.work(t); counts.Worked != 0 {
		t.Errorf("while the key is held the worker did %+v", counts)
	}
	close(gate)
	(<-done).must(t, 201, "")
	h.work(t)
	if got := h.given(t, "k"); got != "charged succeeded 500" {
		t.Errorf("the ride is %s", got)
	}
}

// TestADisputeBeforeTheRideKnowsItsCharge: Stripe's answer is lost, the card's
// holder contests the charge, and the look-up parks the key because of that. The
// ride shows the dispute once a person has said that it is charged.
func TestADisputeBeforeTheRideKnowsItsCharge(t *testing.T) {
	t.Parallel()
	for _, parked := range []bool{false, true} {
		h, seen := newHarness(t), 0
		h.fake.Script(fakestripe.Fault{Kind: fakestripe.DropAfter})
		h.hailAs(t, h.visa, "k").must(t, 503, web.CodePaymentProcessorUnavailable)
		intent := h.intentOf(t, "k")
		if err := h.fake.Dispute(intent, "needs_response"); err != nil {
			t.Fatal(err)
		}
		if parked {
			h.finish(t)
		}
		h.deliverAll(t, &seen, "snapshot")
		for range 2 {
			if counts := h.work(t); counts.Worked != 0 {
				t.Errorf("before the ride knows its charge the worker did %+v", counts)
			}
			h.finish(t)
		}
		if got := h.key(t, h.visa, "k").ParkedReason; got != "stripe_refunded" {
			t.Fatalf("parked for %q", got)
		}
		h.work(t)
		h.checkWaitsForAPerson(t)
		if _, err := h.resolver().ResolveCharged(t.Context(), h.key(t, h.visa, "k"), "ann", intent); err != nil {
			t.Fatal(err)
		}
		h.work(t)
		if got := h.given(t, "k"); got != "charged disputed blocked" {
			t.Errorf("the ride is %s", got)
		}
		if n := number(t, h, `SELECT count(*) FROM stripe_events WHERE worked_at IS NULL`); n != 0 {
			t.Errorf("%d events wait", n)
		}
	}
}

// checkWaitsForAPerson checks that every event waits for a person, in long
// pauses, and that nobody is told that the completer doesn't work them.
func (h *harness) checkWaitsForAPerson(t *testing.T) {
	t.Helper()
	if n := number(t, h, `
		SELECT count(*) FROM stripe_events
		WHERE (worked_at IS NULL AND last_error = 'for_a_person' AND run_after > now() + interval '9 minutes') IS NOT TRUE`); n != 0 {
		t.Errorf("%d events don't wait for a person", n)
	}
	h.exec(t, `UPDATE stripe_events SET received_at = now() - interval '2 days'`)
	registry := prometheus.NewRegistry()
	w := h.eventWorker()
	w.Metrics = registry
	if err := w.start().measure(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := value(t, registry, "rides_stripe_events_oldest_seconds", ""); got != 0 {
		t.Errorf("the oldest event is %v s old", got)
	}
}

// endUnasked parks a ride whose answer from Stripe was lost, sees that the event
// about it waits, in a shape, and has a person end the key as not charged without
// asking Stripe. Then the event is worked.
func (h *harness) endUnasked(t *testing.T, shape string) {
	t.Helper()
	seen := 0
	h.fake.Script(fakestripe.Fault{Kind: fakestripe.DropAfter})
	h.hailAs(t, h.visa, "k").must(t, 503, web.CodePaymentProcessorUnavailable)
	h.parkByHand(t, h.visa, "k")
	h.deliverAll(t, &seen, shape)
	h.work(t)
	h.checkWaitsForAPerson(t)
	if _, err := h.resolver().ResolveNotChargedUnverified(t.Context(), h.key(t, h.visa, "k"), "ann", "Stripe is down"); err != nil {
		t.Fatal(err)
	}
	h.work(t)
	h.finish(t)
}

// TestASuccessOfAParkedKeyIsGivenBack: a person ends the key as not charged,
// without asking Stripe, long after the event that tells of the charge.
func TestASuccessOfAParkedKeyIsGivenBack(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.endUnasked(t, "thin")
	if got := h.given(t, "k"); got != "declined succeeded 2350" {
		t.Errorf("the ride is %s", got)
	}
}

// TestAnOpenPaymentOfAParkedKeyIsClosed: a person ends the key as not charged,
// without asking Stripe, long after the event that tells of the decline.
func TestAnOpenPaymentOfAParkedKeyIsClosed(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.exec(t, `UPDATE accounts SET payment_method = 'pm_card_chargeCustomerFail' WHERE id = $1`, h.visa.AccountID)
	h.endUnasked(t, "snapshot")
	if got := h.outcomes(t); got != "closing" {
		t.Errorf("the event came to %q", got)
	}
	if got := h.fake.PaymentIntents()[0].Status; got != "canceled" {
		t.Errorf("the payment is %s", got)
	}
}

// TestAnEventThatComesBeforeItsKeyIsParked: the look-up finds nothing; then the
// charge comes true and its event arrives, while the worker is about to park.
func TestAnEventThatComesBeforeItsKeyIsParked(t *testing.T) {
	t.Parallel()
	h, seen := newHarness(t), 0
	h.fake.Script(fakestripe.Fault{Kind: fakestripe.Saved500WithoutEffect, RollForwardAfter: fakestripe.Duration(time.Minute)})
	for range 2 {
		h.hailAs(t, h.visa, "k").must(t, 503, web.CodePaymentProcessorUnavailable)
	}
	h.exec(t, `UPDATE idempotency_keys SET find_until = now()`)
	gate := make(chan struct{})
	h.fake.Script(fakestripe.Fault{Kind: fakestripe.Delayed, HoldAfter: gate, Match: fakestripe.Match{Method: "GET", Path: "/v1/payment_intents"}})
	done := make(chan reply)
	go func() { done <- h.hailAs(t, h.visa, "k") }()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := h.fake.WaitSends(ctx, 1, func(s fakestripe.Send) bool { return s.Fault == fakestripe.Delayed && s.Status != 0 }); err != nil {
		t.Fatal(err)
	}
	pgtest.Eventually(t, "the key is held", func() bool { return h.key(t, h.visa, "k").Leased })
	h.rollForward(t)
	h.deliverAll(t, &seen, "snapshot")
	if counts := h.work(t); counts.Worked != 0 {
		t.Fatalf("while the key is held the worker did %+v", counts)
	}
	close(gate)
	(<-done).must(t, 409, web.CodePaymentUnderReview)
	h.work(t)
	h.finish(t)
	h.hailAs(t, h.visa, "k").must(t, 201, "")
	h.checkCharged(t, h.visa, "k")
}

// TestAnEventStaysUntilItsKeyIsAtRest: it has hastened the look-up, which reads
// an older list and parks the key.
func TestAnEventStaysUntilItsKeyIsAtRest(t *testing.T) {
	t.Parallel()
	h, seen := newHarness(t), 0
	h.fake.Script(fakestripe.Fault{Kind: fakestripe.Saved500WithoutEffect, RollForwardAfter: fakestripe.Duration(time.Minute)})
	for range 2 {
		h.hailAs(t, h.visa, "k").must(t, 503, web.CodePaymentProcessorUnavailable)
	}
	h.rollForward(t)
	h.exec(t, `UPDATE idempotency_keys SET run_after = now() + interval '10 minutes'`)
	h.deliverAll(t, &seen, "thin")
	for range 2 {
		if counts := h.work(t); counts.Released != 1 || counts.Worked != 0 {
			t.Fatalf("while the key is unfinished the worker did %+v", counts)
		}
	}
	if n := number(t, h, `SELECT count(*) FROM idempotency_keys WHERE run_after <= now()`); n != 1 {
		t.Error("the key is not due")
	}
	for range 2 {
		h.exec(t, `UPDATE idempotency_keys SET parked_reason = 'stripe_500'`)
		if counts := h.work(t); counts.Released != 1 || counts.Worked != 0 {
			t.Fatalf("before the next look-up the worker did %+v", counts)
		}
	}
	h.finish(t)
	h.work(t)
	if got := h.outcomes(t); got != "nothing_new" {
		t.Errorf("the event came to %q", got)
	}
	h.hailAs(t, h.visa, "k").must(t, 201, "")
}

// TestAnEventHastensWhatWaits: a payment that settles after minutes is finished
// at once.
func TestAnEventHastensWhatWaits(t *testing.T) {
	t.Parallel()
	for _, declined := range []bool{false, true} {
		h, seen := newHarness(t), 0
		h.exec(t, `UPDATE accounts SET payment_method = 'pm_fake_processing' WHERE id = $1`, h.visa.AccountID)
		h.hailAs(t, h.visa, "k").must(t, 503, web.CodePaymentProcessorUnavailable)
		settle := func() error { return h.fake.Settle(h.intentOf(t, "k")) }
		want := 201
		if declined {
			settle = func() error { return h.fake.Decline(h.intentOf(t, "k"), "insufficient_funds") }
			want = 402
		}
		if err := settle(); err != nil {
			t.Fatal(err)
		}
		h.exec(t, `UPDATE idempotency_keys SET run_after = now() + interval '10 minutes'`)
		h.deliverAll(t, &seen, "thin")
		h.work(t)
		completer := phases.Completer{Engine: h.engine, Poll: time.Millisecond, Concurrency: 8, Retention: time.Hour, Tombstones: time.Hour}
		if counts, err := completer.Once(t.Context()); err != nil || counts.Finished != 1 {
			t.Errorf("the completer did %+v, %v", counts, err)
		}
		if got := h.key(t, h.visa, "k").Status; got != want {
			t.Errorf("the key ended with %d, want %d", got, want)
		}
	}
}
