package rides

import (
	"errors"
	"strings"
	"testing"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/web"
)

// parkedCancel returns a ride whose cancel is parked under the key "k", after a
// fault of Stripe's.
func parkedCancel(t *testing.T, kind fakestripe.Kind) (*harness, Ride, phases.Record) {
	t.Helper()
	h := newHarness(t)
	ride := h.charged(t)
	h.onRefund(kind, nil)
	h.cancelAs(t, h.visa, ride.ID, "k").must(t, 503, web.CodePaymentProcessorUnavailable)
	if err := (phases.Keys{Pool: h.pool}).Park(t.Context(), h.key(t, h.visa, "k"), "ann"); err != nil {
		t.Fatal(err)
	}
	h.cancelAs(t, h.visa, ride.ID, "k").must(t, 409, web.CodePaymentUnderReview)
	h.mustNow(t, h.cancelAs(t, h.visa, ride.ID, "other"), "other")
	if seen := h.rideAs(t, h.visa, ride.ID); seen.Status != StatusCharged {
		t.Errorf("the ride of a parked cancel is %s", seen.Status)
	}
	return h, ride, h.key(t, h.visa, "k")
}

func TestResolvingACancel(t *testing.T) {
	t.Parallel()

	t.Run("what was refunded can only be resolved as refunded", func(t *testing.T) {
		t.Parallel()
		h, ride, seen := parkedCancel(t, fakestripe.DropAfter)
		resolver := h.resolver()
		var possible *payments.RefundPossibleError
		if _, err := resolver.ResolveNotRefunded(t.Context(), seen, "ann"); !errors.As(err, &possible) {
			t.Errorf("resolving as not refunded: %v, want a RefundPossibleError", err)
		}
		if _, err := resolver.ResolveRefunded(t.Context(), seen, "ann", "re_other"); err == nil {
			t.Error("a refund that doesn't exist was believed")
		}
		if _, err := resolver.ResolveRefunded(t.Context(), seen, "ann", h.fake.Refunds()[0].ID); err != nil {
			t.Fatal(err)
		}
		h.cancelAs(t, h.visa, ride.ID, "k").must(t, 200, "")
		h.checkCanceled(t, h.visa, ride.ID, "k")
	})

	t.Run("what was not refunded is over, and the ride is free for another key", func(t *testing.T) {
		t.Parallel()
		h, ride, seen := parkedCancel(t, fakestripe.DropBefore)
		resolver := h.resolver()
		if _, err := resolver.ResolveRefunded(t.Context(), seen, "ann", "re_1"); err == nil {
			t.Error("it was resolved as refunded")
		}
		if _, err := resolver.ResolveNotRefunded(t.Context(), seen, "ann"); err != nil {
			t.Fatal(err)
		}
		h.mustStored(t, h.visa, ride.ID, "k")
		h.cancelAs(t, h.visa, ride.ID, "other").must(t, 200, "")
		h.checkCanceled(t, h.visa, ride.ID, "other")
	})

	t.Run("what a person gave back at the dashboard settles it", func(t *testing.T) {
		t.Parallel()
		h, ride, seen := parkedCancel(t, fakestripe.DropBefore)
		part, err := h.fake.DashboardRefund(ride.Charge.PaymentIntent, 500)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.resolver().ResolveRefunded(t.Context(), seen, "ann", part); err == nil || !strings.Contains(err.Error(), "500 were given back") {
			t.Errorf("a part of the fare was believed: %v", err)
		}
		rest, err := h.fake.DashboardRefund(ride.Charge.PaymentIntent, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.resolver().ResolveRefunded(t.Context(), seen, "ann", rest); err != nil {
			t.Fatal(err)
		}
		h.checkCanceled(t, h.visa, ride.ID, "k")
	})

	t.Run("what Stripe can't be asked about is believed", func(t *testing.T) {
		t.Parallel()
		h, ride, seen := parkedCancel(t, fakestripe.DropAfter)
		h.fake.Script(fakestripe.Fault{Kind: fakestripe.Unavailable503, Times: -1, Match: fakestripe.Match{Method: "*"}})
		if _, err := h.resolver().ResolveRefunded(t.Context(), seen, "ann", "re_1"); err == nil {
			t.Error("it was believed without Stripe")
		}
		if _, err := h.resolver().ResolveRefundedUnverified(t.Context(), seen, "ann", "a test", "re_1"); err != nil {
			t.Fatal(err)
		}
		if r := h.cancelAs(t, h.visa, ride.ID, "k").must(t, 200, ""); r.ride.Refund == nil || r.ride.Refund.ID != "re_1" || r.ride.Refund.Money != ride.Fare {
			t.Errorf("answered %s", r.body)
		}
	})

	t.Run("nothing given back is believed, too", func(t *testing.T) {
		t.Parallel()
		h, ride, seen := parkedCancel(t, fakestripe.DropBefore)
		if _, err := h.resolver().ResolveNotRefundedUnverified(t.Context(), seen, "ann", "a test"); err != nil {
			t.Fatal(err)
		}
		h.mustStored(t, h.visa, ride.ID, "k")
		if n := number(t, h, `SELECT count(*) FROM audit_records WHERE action = 'key.resolved' AND data->>'decision' = 'not refunded, unverified: a test'`); n != 1 {
			t.Errorf("%d records of the decision", n)
		}
	})

	t.Run("a decision about a charge is not one about a refund", func(t *testing.T) {
		t.Parallel()
		h, _, seen := parkedCancel(t, fakestripe.DropBefore)
		resolver := h.resolver()
		if _, err := resolver.ResolveNotCharged(t.Context(), seen, "ann"); err == nil || !strings.Contains(err.Error(), "flow cancel: decide with --refunded or --not-refunded") {
			t.Errorf("resolving a cancel as not charged: %v", err)
		}
		h.fake.Script(fakestripe.Fault{Kind: fakestripe.DropBefore})
		h.hailAs(t, h.visa, "lost").must(t, 503, web.CodePaymentProcessorUnavailable)
		if err := (phases.Keys{Pool: h.pool}).Park(t.Context(), h.key(t, h.visa, "lost"), "ann"); err != nil {
			t.Fatal(err)
		}
		if _, err := resolver.ResolveNotRefunded(t.Context(), h.key(t, h.visa, "lost"), "ann"); err == nil || !strings.Contains(err.Error(), "flow hail: decide with --charged or --not-charged") {
			t.Errorf("resolving a hail as not refunded: %v", err)
		}
	})

	t.Run("what is refunded already is only retried", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t, stepwise)
		ride := h.charged(t)
		h.exec(t, `ALTER TABLE staged_jobs ADD CONSTRAINT closed CHECK (false) NOT VALID`)
		h.cancelAs(t, h.visa, ride.ID, "k").must(t, 500, web.CodeInternal)
		h.exec(t, `ALTER TABLE staged_jobs DROP CONSTRAINT closed`)
		if err := (phases.Keys{Pool: h.pool}).Park(t.Context(), h.key(t, h.visa, "k"), "ann"); err != nil {
			t.Fatal(err)
		}
		if _, err := h.resolver().ResolveNotRefundedUnverified(t.Context(), h.key(t, h.visa, "k"), "ann", "a test"); err == nil {
			t.Error("it was resolved as not refunded")
		}
		if err := (phases.Keys{Pool: h.pool}).Retry(t.Context(), h.key(t, h.visa, "k"), "ann"); err != nil {
			t.Fatal(err)
		}
		h.cancelAs(t, h.visa, ride.ID, "k").must(t, 200, "")
		h.checkCanceled(t, h.visa, ride.ID, "k")
	})
}
