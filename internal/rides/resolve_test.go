package rides

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/web"
)

func TestParkingAndResolving(t *testing.T) {
	t.Parallel()
	park := func(t *testing.T, h *harness) phases.Record {
		t.Helper()
		keys := phases.Keys{Pool: h.pool}
		if err := keys.Park(t.Context(), h.key(t, h.visa, "k"), "ann"); err != nil {
			t.Fatal(err)
		}
		h.hailAs(t, h.visa, "k").must(t, 409, web.CodePaymentUnderReview)
		ride := h.send(t, call{method: "GET", path: "/v1/rides/" + rideID(h.visa.AccountID, "k"), as: h.visa}).must(t, 200, "").ride
		if ride.Status != StatusUnderReview {
			t.Errorf("the ride is %s", ride.Status)
		}
		return h.key(t, h.visa, "k")
	}
	leave := func(t *testing.T, kind fakestripe.Kind) *harness {
		t.Helper()
		h := newHarness(t)
		h.fake.Script(fakestripe.Fault{Kind: kind})
		h.hailAs(t, h.visa, "k").must(t, 503, web.CodePaymentProcessorUnavailable)
		return h
	}

	t.Run("what was charged can only be resolved as charged", func(t *testing.T) {
		t.Parallel()
		h := leave(t, fakestripe.DropAfter)
		seen := park(t, h)
		resolver := h.resolver()
		var possible *payments.ChargePossibleError
		if _, err := resolver.ResolveNotCharged(t.Context(), seen, "ann"); !errors.As(err, &possible) {
			t.Errorf("resolving as not charged: %v, want a ChargePossibleError", err)
		}
		other := h.hailAs(t, h.visa, "other").must(t, 201, "").ride
		if _, err := resolver.ResolveCharged(t.Context(), seen, "ann", other.Charge.PaymentIntent); err == nil {
			t.Error("another ride's charge was believed")
		}
		for _, intent := range h.fake.PaymentIntents() {
			if intent.Metadata["ride_id"] == rideID(h.visa.AccountID, "k") {
				if _, err := resolver.ResolveCharged(t.Context(), seen, "ann", intent.ID); err != nil {
					t.Fatal(err)
				}
			}
		}
		h.hailAs(t, h.visa, "k").must(t, 201, "")
		h.checkCharged(t, h.visa, "k")
	})

	t.Run("what was not charged is declined for good", func(t *testing.T) {
		t.Parallel()
		h := leave(t, fakestripe.DropBefore)
		seen := park(t, h)
		resolver := h.resolver()
		if _, err := resolver.ResolveNotCharged(t.Context(), seen, "ann"); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			h.hailAs(t, h.visa, "k").must(t, 402, web.CodePaymentFailed)
		}
		ride := h.send(t, call{method: "GET", path: "/v1/rides/" + rideID(h.visa.AccountID, "k"), as: h.visa}).must(t, 200, "").ride
		if ride.Status != StatusDeclined {
			t.Errorf("the ride is %s", ride.Status)
		}
		if f := ride.Failure; f == nil || f.Code != web.CodePaymentFailed || f.DeclineCode != nil || f.Detail == "" {
			t.Errorf("the ride's failure is %+v", f)
		}
	})

	t.Run("a key without a ride gets one, which refuses a second life of the key", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t, stepwise)
		h.exec(t, `ALTER TABLE rides ADD CONSTRAINT none CHECK (false) NOT VALID`)
		h.hailAs(t, h.visa, "k").must(t, 500, web.CodeInternal)
		h.exec(t, `ALTER TABLE rides DROP CONSTRAINT none`)
		if point := h.key(t, h.visa, "k").RecoveryPoint; point != phases.Started {
			t.Fatalf("the key stands at %s", point)
		}
		if err := (phases.Keys{Pool: h.pool}).Park(t.Context(), h.key(t, h.visa, "k"), "ann"); err != nil {
			t.Fatal(err)
		}
		h.expire(t)
		resolver := h.resolver()
		if _, err := resolver.ResolveNotCharged(t.Context(), h.key(t, h.visa, "k"), "ann"); err != nil {
			t.Fatal(err)
		}
		ride := h.send(t, call{method: "GET", path: "/v1/rides/" + rideID(h.visa.AccountID, "k"), as: h.visa}).must(t, 200, "").ride
		if ride.Status != StatusDeclined {
			t.Errorf("the ride is %s", ride.Status)
		}
		reaper := phases.Completer{Engine: h.engine, Concurrency: 1, Retention: time.Nanosecond, Tombstones: time.Nanosecond}
		for range 2 { // the answer, then the tombstone
			if _, err := reaper.Once(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		h.hailAs(t, h.visa, "k").must(t, 422, web.CodeIdempotencyKeyExpired)
	})

	t.Run("a parked key can go back to the completer", func(t *testing.T) {
		t.Parallel()
		h := leave(t, fakestripe.DropAfter)
		if err := (phases.Keys{Pool: h.pool}).Retry(t.Context(), park(t, h), "ann"); err != nil {
			t.Fatal(err)
		}
		if counts := h.complete(t); counts.Finished != 1 {
			t.Errorf("the completer did %+v", counts)
		}
		h.checkCharged(t, h.visa, "k")
	})
}

// decisions are everything that a person can decide about a parked key, of
// which the intent and the charge are given.
func decisions(r Resolver, intent, charge string) map[string]func(context.Context, phases.Record) (phases.Result, error) {
	return map[string]func(context.Context, phases.Record) (phases.Result, error){
		"charged": func(ctx context.Context, seen phases.Record) (phases.Result, error) {
			return r.ResolveCharged(ctx, seen, "ann", intent)
		},
		"not charged": func(ctx context.Context, seen phases.Record) (phases.Result, error) {
			return r.ResolveNotCharged(ctx, seen, "ann")
		},
		"charged, unverified": func(ctx context.Context, seen phases.Record) (phases.Result, error) {
			return r.ResolveChargedUnverified(ctx, seen, "ann", "Stripe is down", intent, charge)
		},
		"not charged, unverified": func(ctx context.Context, seen phases.Record) (phases.Result, error) {
			return r.ResolveNotChargedUnverified(ctx, seen, "ann", "Stripe is down")
		},
	}
}

// refund gives back the money of an intent, as a person does at Stripe.
func (h *harness) refund(t *testing.T, intent string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.stripe+"/v1/refunds", strings.NewReader("payment_intent="+intent))
	if err != nil {
		t.Fatal(err)
	}
	request.Header = http.Header{"Authorization": {"Bearer " + stripeKey}, "Content-Type": {"application/x-www-form-urlencoded"}}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	if _ = response.Body.Close(); response.StatusCode != http.StatusOK {
		t.Fatalf("refunding %s: %d", intent, response.StatusCode)
	}
}

// TestAKeyBehindItsChargeIsOnlyRetried: its ride says that it was charged, and
// that stays so, even if the money was given back since: the client is told of
// its ride, and the refund is another story.
func TestAKeyBehindItsChargeIsOnlyRetried(t *testing.T) {
	t.Parallel()
	for _, refunded := range []bool{false, true} {
		t.Run(fmt.Sprint("refunded ", refunded), func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			h.exec(t, `ALTER TABLE staged_jobs ADD CONSTRAINT none CHECK (false) NOT VALID`)
			h.fake.Script(fakestripe.Fault{Kind: fakestripe.DropAfter}) // so that the next attempt is stepwise
			h.hailAs(t, h.visa, "k").must(t, 503, web.CodePaymentProcessorUnavailable)
			h.hailAs(t, h.visa, "k").must(t, 500, web.CodeInternal)
			h.exec(t, `ALTER TABLE staged_jobs DROP CONSTRAINT none`)
			h.parkByHand(t, h.visa, "k")
			seen := h.key(t, h.visa, "k")
			if seen.RecoveryPoint != pointCharge {
				t.Fatalf("the key stands at %s", seen.RecoveryPoint)
			}
			ride := h.send(t, call{method: "GET", path: ridePath(rideID(h.visa.AccountID, "k")), as: h.visa}).must(t, 200, "").ride
			if refunded {
				h.refund(t, ride.Charge.PaymentIntent)
			}
			asked := len(h.fake.Ledger())
			for name, decide := range decisions(h.resolver(), ride.Charge.PaymentIntent, ride.Charge.ID) {
				if result, err := decide(t.Context(), seen); err == nil || !strings.Contains(err.Error(), "retry the key instead") {
					t.Errorf("%s: %d, %v", name, result.Answer.Status, err)
				}
			}
			if n := len(h.fake.Ledger()); n != asked {
				t.Errorf("Stripe was asked %d times", n-asked)
			}
			if err := (phases.Keys{Pool: h.pool}).Retry(t.Context(), seen, "ann"); err != nil {
				t.Fatal(err)
			}
			h.hailAs(t, h.visa, "k").must(t, 201, "")
			h.checkSends(t)
		})
	}
}

// TestARefundedChargeIsNotResolvedAsCharged: the client would be told of a ride
// that nobody has paid for. It can be resolved as not charged.
func TestARefundedChargeIsNotResolvedAsCharged(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.fake.Script(fakestripe.Fault{Kind: fakestripe.DropAfter})
	h.hailAs(t, h.visa, "k").must(t, 503, web.CodePaymentProcessorUnavailable)
	h.parkByHand(t, h.visa, "k")
	intent := h.fake.PaymentIntents()[0].ID
	h.refund(t, intent)
	resolver := h.resolver()
	if _, err := resolver.ResolveCharged(t.Context(), h.key(t, h.visa, "k"), "ann", intent); err == nil || !strings.Contains(err.Error(), "it was refunded in full") {
		t.Errorf("resolved as charged: %v", err)
	}
	if _, err := resolver.ResolveNotCharged(t.Context(), h.key(t, h.visa, "k"), "ann"); err != nil {
		t.Errorf("resolved as not charged: %v", err)
	}
	h.hailAs(t, h.visa, "k").must(t, 402, web.CodePaymentFailed)
}

// TestARefundAndADisputeBeforeTheRideKnowsItsCharge: Stripe has given the money
// back, all or a part, and the card's holder contests the charge as well. It is
// not certain that no money was taken, so a person can end the key as charged
// only, and the ride shows both.
func TestARefundAndADisputeBeforeTheRideKnowsItsCharge(t *testing.T) {
	t.Parallel()
	for amount, want := range map[int64]string{0: "charged succeeded 2350 disputed blocked", 500: "charged succeeded 500 disputed blocked"} {
		h, seen := newHarness(t), 0
		h.fake.Script(fakestripe.Fault{Kind: fakestripe.DropAfter})
		h.hailAs(t, h.visa, "k").must(t, 503, web.CodePaymentProcessorUnavailable)
		intent := h.intentOf(t, "k")
		if _, err := h.fake.DashboardRefund(intent, amount); err != nil {
			t.Fatal(err)
		}
		if err := h.fake.Dispute(intent, "needs_response"); err != nil {
			t.Fatal(err)
		}
		h.finish(t)
		h.deliverAll(t, &seen, "snapshot")
		h.work(t)
		parked := h.key(t, h.visa, "k")
		if _, err := h.resolver().ResolveNotCharged(t.Context(), parked, "ann"); err == nil {
			t.Fatal("it was resolved as not charged")
		}
		if _, err := h.resolver().ResolveCharged(t.Context(), parked, "ann", intent); err != nil {
			t.Fatal(err)
		}
		h.hailAs(t, h.visa, "k").must(t, 201, "")
		h.settleDown(t)
		if got := h.given(t, "k"); got != want {
			t.Errorf("the ride is %s, want %s", got, want)
		}
	}
}

// TestDecisionsWithoutStripe: a person can end any key also when Stripe can't
// be asked, and the audit record says that it wasn't.
func TestDecisionsWithoutStripe(t *testing.T) {
	t.Parallel()
	for name, status := range map[string]int{"charged, unverified": 201, "not charged, unverified": 402} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			h.fake.Script(fakestripe.Fault{Kind: fakestripe.DropBefore})
			h.hailAs(t, h.visa, "k").must(t, 503, web.CodePaymentProcessorUnavailable)
			h.parkByHand(t, h.visa, "k")
			asked := len(h.fake.Ledger())
			decide := decisions(h.resolver(), "pi_told", "ch_told")[name]
			if result, err := decide(t.Context(), h.key(t, h.visa, "k")); err != nil || result.Answer.Status != status {
				t.Fatalf("got %d, %v", result.Answer.Status, err)
			}
			if n := len(h.fake.Ledger()); n != asked {
				t.Errorf("Stripe was asked %d times", n-asked)
			}
			r := h.hailAs(t, h.visa, "k")
			if r.status != status || r.header.Get("Idempotent-Replayed") != "true" {
				t.Errorf("the client gets %d %s", r.status, r.body)
			}
			if status == 201 && *r.ride.Charge != (Charge{ID: "ch_told", PaymentIntent: "pi_told"}) {
				t.Errorf("the ride is %s", r.body)
			}
			if n := number(t, h, `
				SELECT count(*) FROM audit_records
				WHERE action = 'key.resolved' AND data->>'by' = 'ann' AND data->>'decision' LIKE '%unverified: Stripe is down'`); n != 1 {
				t.Errorf("%d audit records say that Stripe was not asked", n)
			}
		})
	}
}

// TestAKeyOfAnotherVersionIsNotResolved: another process knows how it goes on.
func TestAKeyOfAnotherVersionIsNotResolved(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.fake.Script(fakestripe.Fault{Kind: fakestripe.DropAfter})
	h.hailAs(t, h.visa, "k").must(t, 503, web.CodePaymentProcessorUnavailable)
	h.parkByHand(t, h.visa, "k")
	for _, change := range []string{`flow_version = 99`, `flow = 'walk', flow_version = 1`, `flow = 'hail', flow_version = 1, realm = 'other'`} {
		h.exec(t, `UPDATE idempotency_keys SET `+change)
		seen := h.key(t, h.visa, "k")
		for name, decide := range decisions(h.resolver(), h.fake.PaymentIntents()[0].ID, "ch_told") {
			if result, err := decide(t.Context(), seen); !errors.Is(err, phases.ErrUnknownVersion) {
				t.Errorf("%s, %s: %d, %v", change, name, result.Answer.Status, err)
			}
		}
		if again := h.key(t, h.visa, "k"); !cmp.Equal(seen, again) {
			t.Errorf("%s: the key was changed:\n%s", change, cmp.Diff(seen, again))
		}
	}
}
