package rides

import (
	"errors"
	"testing"
	"time"

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
		resolver := Resolver{Engine: h.engine, Stripe: h.process.stripe}
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
		resolver := Resolver{Engine: h.engine, Stripe: h.process.stripe}
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
		resolver := Resolver{Engine: h.engine, Stripe: h.process.stripe}
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
