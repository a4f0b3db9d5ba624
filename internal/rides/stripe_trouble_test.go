package rides

import (
	"fmt"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/internal/web"
)

// TestUnclearAnswersAreNotStored: whatever Stripe does that isn't an answer,
// the client may come back with the same key and is charged once.
func TestUnclearAnswersAreNotStored(t *testing.T) {
	t.Parallel()
	for _, kind := range []fakestripe.Kind{
		fakestripe.DropBefore, fakestripe.DropAfter, fakestripe.Unsaved500, fakestripe.InUse409, fakestripe.LockTimeout,
		fakestripe.RateLimited429, fakestripe.Unauthorized401, fakestripe.Forbidden403, fakestripe.Unavailable503,
		fakestripe.BadGateway502, fakestripe.Truncated200, fakestripe.Empty200,
	} {
		for name, settings := range map[string][]setting{"fused": nil, "stepwise": {stepwise}} {
			t.Run(fmt.Sprint(kind, " ", name), func(t *testing.T) {
				t.Parallel()
				h := newHarness(t, settings...)
				h.fake.Script(fakestripe.Fault{Kind: kind})
				r := h.hailAs(t, h.visa, "k").must(t, 503, web.CodePaymentProcessorUnavailable)
				if !r.problem.Retryable {
					t.Error("it says that it is not retryable")
				}
				ride := h.send(t, call{method: "GET", path: "/v1/rides/" + rideID(h.visa.AccountID, "k"), as: h.visa}).must(t, 200, "").ride
				if ride.Status != StatusPending || ride.Charge != nil {
					t.Errorf("the ride is %s with charge %v", ride.Status, ride.Charge)
				}
				pgtest.Eventually(t, "the ride is charged", func() bool { return h.hailAs(t, h.visa, "k").status == 201 })
				h.checkCharged(t, h.visa, "k")
			})
		}
	}
}

func TestASaved500(t *testing.T) {
	t.Parallel()

	t.Run("with effect is adopted", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		h.fake.Script(fakestripe.Fault{Kind: fakestripe.Saved500WithEffect})
		h.hailAs(t, h.visa, "k").must(t, 503, web.CodePaymentProcessorUnavailable)
		h.hailAs(t, h.visa, "k").must(t, 201, "")
		h.checkCharged(t, h.visa, "k")
	})
	t.Run("without effect is parked, but not before its time, and never sent again", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		h.fake.Script(fakestripe.Fault{Kind: fakestripe.Saved500WithoutEffect})
		for range 4 {
			h.hailAs(t, h.visa, "k").must(t, 503, web.CodePaymentProcessorUnavailable)
		}
		if n := len(h.fake.Ledger()); n != 2 {
			t.Errorf("%d sends, want the first and the one that learnt that it is saved", n)
		}
		h.exec(t, `UPDATE idempotency_keys SET find_until = now()`)
		h.hailAs(t, h.visa, "k").must(t, 409, web.CodePaymentUnderReview)
		if got := h.key(t, h.visa, "k").ParkedReason; got != "stripe_500" {
			t.Errorf("parked for %q", got)
		}
		ride := h.send(t, call{method: "GET", path: "/v1/rides/" + rideID(h.visa.AccountID, "k"), as: h.visa}).must(t, 200, "").ride
		if ride.Status != StatusUnderReview {
			t.Errorf("the ride is %s", ride.Status)
		}
	})
	t.Run("that rolls forward later is adopted", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		h.fake.Script(fakestripe.Fault{Kind: fakestripe.Saved500WithoutEffect, RollForwardAfter: fakestripe.Duration(time.Minute)})
		h.hailAs(t, h.visa, "k").must(t, 503, web.CodePaymentProcessorUnavailable)
		h.hailAs(t, h.visa, "k").must(t, 503, web.CodePaymentProcessorUnavailable)
		if err := h.fake.Advance(2 * time.Minute); err != nil {
			t.Fatal(err)
		}
		h.expire(t)
		if counts := h.complete(t); counts.Finished != 1 {
			t.Errorf("the completer did %+v", counts)
		}
		h.checkCharged(t, h.visa, "k")
	})
}

func TestProcessing(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.exec(t, `UPDATE accounts SET payment_method = 'pm_fake_processing' WHERE id = $1`, h.visa.AccountID)
	h.hailAs(t, h.visa, "k").must(t, 503, web.CodePaymentProcessorUnavailable)
	intents := h.fake.PaymentIntents()
	if len(intents) != 1 {
		t.Fatalf("%d intents", len(intents))
	}
	h.hailAs(t, h.visa, "k").must(t, 503, web.CodePaymentProcessorUnavailable)
	if err := h.fake.Settle(intents[0].ID); err != nil {
		t.Fatal(err)
	}
	h.hailAs(t, h.visa, "k").must(t, 201, "")
	h.checkCharged(t, h.visa, "k")
	if n := len(h.fake.Ledger()); n != 1 {
		t.Errorf("%d sends, want 1: what is processing is read, not sent again", n)
	}
}

// TestAPaymentThatNeverSettles: the completer asks less and less often, and
// when the window is over, a person decides.
func TestAPaymentThatNeverSettles(t *testing.T) {
	t.Parallel()
	for attempts, most := range map[int]time.Duration{1: 5 * time.Second, 2: 10 * time.Second, 3: 20 * time.Second, 8: 10 * time.Minute, 5000: 10 * time.Minute} {
		for range 50 {
			if got := processingPause(attempts); got > most || got < 5*time.Second || got < most/2 {
				t.Errorf("attempt %d is followed by a pause of %s, want about %s", attempts, got, most)
			}
		}
	}
	h := newHarness(t)
	h.exec(t, `UPDATE accounts SET payment_method = 'pm_fake_processing' WHERE id = $1`, h.visa.AccountID)
	h.hailAs(t, h.visa, "k").must(t, 503, web.CodePaymentProcessorUnavailable)
	for range 8 {
		h.expire(t)
		if counts := h.complete(t); counts.Released != 1 {
			t.Fatalf("the completer did %+v", counts)
		}
	}
	if n := number(t, h, `SELECT extract(epoch FROM run_after - now())::int FROM idempotency_keys`); n < 4*60 || n > 10*60 {
		t.Errorf("after nine attempts the next is in %d seconds, want about ten minutes", n)
	}
	h.exec(t, `UPDATE idempotency_keys SET first_sent_at = now() - interval '21 hours'`)
	h.expire(t)
	if counts := h.complete(t); counts.Parked != 1 {
		t.Errorf("the completer did %+v", counts)
	}
	if got := h.key(t, h.visa, "k").ParkedReason; got != "window_over" {
		t.Errorf("parked for %q", got)
	}
}

func TestAMismatchIsParked(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.fake.Script(fakestripe.Fault{Kind: fakestripe.OtherObject, Set: map[string]any{"amount": 1}})
	h.hailAs(t, h.visa, "k").must(t, 409, web.CodePaymentUnderReview)
	if got := h.key(t, h.visa, "k").ParkedReason; got != "stripe_mismatch" {
		t.Errorf("parked for %q", got)
	}
}

func TestTheCompleterFinishesWhatStripeFailed(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.fake.Script(fakestripe.Fault{Kind: fakestripe.DropAfter, Times: 3})
	for i := range 3 {
		h.hailAs(t, h.visa, fmt.Sprint("k", i)).must(t, 503, web.CodePaymentProcessorUnavailable)
	}
	h.expire(t)
	if counts := h.complete(t); counts.Finished != 3 {
		t.Errorf("the completer did %+v", counts)
	}
	for i := range 3 {
		key := fmt.Sprint("k", i)
		r := h.hailAs(t, h.visa, key).must(t, 201, "")
		if r.header.Get("Idempotent-Replayed") != "true" {
			t.Error("what the completer finished is not a replay")
		}
		h.checkCharged(t, h.visa, key)
	}
}
