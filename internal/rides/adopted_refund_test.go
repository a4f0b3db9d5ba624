package rides

import (
	"errors"
	"strings"
	"testing"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/web"
)

// refundAtDashboard makes a refund of all of a payment at the dashboard, which
// is on its way.
func (h *harness) refundAtDashboard(t *testing.T, intent string) (refund string) {
	t.Helper()
	refund, err := h.fake.DashboardRefund(intent, 0)
	if err != nil {
		t.Fatal(err)
	}
	h.changeRefund(t, refund, "pending")
	return refund
}

// changeRefund gives a refund another status.
func (h *harness) changeRefund(t *testing.T, refund, status string) {
	t.Helper()
	if err := h.fake.ChangeRefund(refund, status); err != nil {
		t.Fatal(err)
	}
}

// refundedElsewhere returns a charged ride whose fare is on its way back, by a
// refund that somebody made at the dashboard.
func refundedElsewhere(t *testing.T) (h *harness, ride Ride, refund string) {
	t.Helper()
	h = newHarness(t)
	ride = h.charged(t)
	refund = h.refundAtDashboard(t, ride.Charge.PaymentIntent)
	return h, ride, refund
}

// TestAnAdoptedRefundThatFailsIsMade: a cancel that waits for somebody else's
// refund sends its own when that has failed.
func TestAnAdoptedRefundThatFailsIsMade(t *testing.T) {
	t.Parallel()

	t.Run("by the cancel", func(t *testing.T) {
		t.Parallel()
		h, ride, refund := refundedElsewhere(t)
		for range 2 {
			h.cancelAs(t, h.visa, ride.ID, "k").must(t, 202, "")
		}
		h.changeRefund(t, refund, "failed")
		h.cancelAs(t, h.visa, ride.ID, "k").must(t, 200, "")
		h.checkCanceled(t, h.visa, ride.ID, "k")
	})

	t.Run("and if it succeeds, no other is made", func(t *testing.T) {
		t.Parallel()
		h, ride, refund := refundedElsewhere(t)
		h.cancelAs(t, h.visa, ride.ID, "k").must(t, 202, "")
		h.changeRefund(t, refund, "succeeded")
		h.cancelAs(t, h.visa, ride.ID, "k").must(t, 200, "")
		h.checkCanceled(t, h.visa, ride.ID, "k")
		if n := len(h.fake.Refunds()); n != 1 {
			t.Errorf("Stripe has %d refunds", n)
		}
	})

	t.Run("by another key, where Stripe has saved that it refused", func(t *testing.T) {
		t.Parallel()
		h, ride, refund := refundedElsewhere(t)
		h.onRefund(fakestripe.Saved400, func(f *fakestripe.Fault) { f.Code = "charge_already_refunded" })
		for range 2 {
			h.cancelAs(t, h.visa, ride.ID, "k").must(t, 202, "")
		}
		h.changeRefund(t, refund, "failed")
		h.mustStored(t, h.visa, ride.ID, "k")
		h.cancelAs(t, h.visa, ride.ID, "other").must(t, 200, "")
		h.checkCanceled(t, h.visa, ride.ID, "other")
	})

	t.Run("by a late refund", func(t *testing.T) {
		t.Parallel()
		h, ride, intent := chargedLate(t)
		refund := h.refundAtDashboard(t, intent)
		var waits *phases.ForeignError
		if _, err := h.refundLate(t, ride, intent); !errors.As(err, &waits) || !waits.Waiting {
			t.Fatalf("the late refund ended with %v", err)
		}
		h.changeRefund(t, refund, "failed")
		if _, err := h.refundLate(t, ride, intent); err != nil {
			t.Fatal(err)
		}
		seen := h.rideAs(t, h.declined, ride.ID)
		if seen.Status != StatusDeclined || seen.Refund == nil || seen.Refund.Status != "succeeded" || seen.Refund.Money != ride.Fare {
			t.Errorf("the ride is %s with %+v", seen.Status, seen.Refund)
		}
		h.checkRefundSends(t)
	})
}

// TestARefundThatFailsBesideAPart: the client is told that it failed, and not
// that the ride can't be refunded, also if somebody has given back a part.
func TestARefundThatFailsBesideAPart(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(h *harness, ride Ride){
		"somebody else's, and Stripe has saved that it refused": func(h *harness, ride Ride) {
			rest := h.refundAtDashboard(t, ride.Charge.PaymentIntent)
			h.onRefund(fakestripe.Saved400, func(f *fakestripe.Fault) { f.Code = "charge_already_refunded" })
			h.cancelAs(t, h.visa, ride.ID, "k").must(t, 202, "")
			h.changeRefund(t, rest, "failed")
		},
		"the key's own": func(h *harness, _ Ride) { h.refundsAs("failed") },
	} {
		h := newHarness(t)
		ride := h.charged(t)
		if _, err := h.fake.DashboardRefund(ride.Charge.PaymentIntent, 500); err != nil {
			t.Fatal(err)
		}
		fail(h, ride)
		r := h.cancelAs(t, h.visa, ride.ID, "k").must(t, 409, web.CodeRideNotCancelable)
		if !strings.Contains(r.problem.Detail, "with a new Idempotency-Key") {
			t.Errorf("%s: the client is told %q", name, r.problem.Detail)
		}
		h.cancelAs(t, h.visa, ride.ID, "other").must(t, 200, "")
		h.checkCanceled(t, h.visa, ride.ID, "other")
	}
}

// TestAnAdoptedRefundIsParkedWhenTheWindowIsOver: then the cancel's own can't be
// sent any more, whatever becomes of the other.
func TestAnAdoptedRefundIsParkedWhenTheWindowIsOver(t *testing.T) {
	t.Parallel()
	h, ride, refund := refundedElsewhere(t)
	h.cancelAs(t, h.visa, ride.ID, "k").must(t, 202, "")
	h.changeRefund(t, refund, "failed")
	h.exec(t, `UPDATE idempotency_keys SET first_sent_at = now() - interval '21 hours' WHERE key = 'k'`)
	h.cancelAs(t, h.visa, ride.ID, "k").must(t, 409, web.CodePaymentUnderReview)
	if parked := h.key(t, h.visa, "k"); parked.ParkedReason != "window_over" {
		t.Errorf("parked for %q", parked.ParkedReason)
	}
}

// TestAnotherRefundThatFailsUnparksNothing: a look-up would find nothing, and
// park the key again, round after round. A person decides, and then the ride
// shows what came of the other refund.
func TestAnotherRefundThatFailsUnparksNothing(t *testing.T) {
	t.Parallel()
	h, ride, refund := refundedElsewhere(t)
	h.cancelAs(t, h.visa, ride.ID, "k").must(t, 202, "")
	h.endWindow(t, "k")
	h.changeRefund(t, refund, "failed")
	seen := 0
	h.deliverAll(t, &seen, "snapshot")
	for range 2 {
		h.work(t)
		h.checkRefundEventsWait(t)
		h.finish(t)
	}
	if n := number(t, h, `SELECT count(*) FROM audit_records WHERE action = 'key.unparked'`); n != 0 {
		t.Errorf("the key was unparked %d times", n)
	}
	if _, err := h.resolver().ResolveNotRefunded(t.Context(), h.key(t, h.visa, "k"), "ann"); err != nil {
		t.Fatal(err)
	}
	h.settleDown(t)
	if got := h.given(t, "hail"); got != "charged failed 2350" {
		t.Errorf("the ride is %s", got)
	}
	h.cancelAs(t, h.visa, ride.ID, "other").must(t, 200, "")
	h.checkCanceled(t, h.visa, ride.ID, "other")
}

// TestTheKeysOwnRefundUnparks: once it is settled, a look-up ends the key.
func TestTheKeysOwnRefundUnparks(t *testing.T) {
	t.Parallel()
	for status, want := range map[string]int{"succeeded": 200, "failed": 409} {
		h := newHarness(t)
		ride := h.charged(t)
		h.refundsAs("pending")
		h.cancelAs(t, h.visa, ride.ID, "k").must(t, 202, "")
		h.endWindow(t, "k")
		h.changeRefund(t, h.fake.Refunds()[0].ID, status)
		seen := 0
		h.deliverAll(t, &seen, "thin")
		h.work(t)
		h.finish(t)
		if got := h.key(t, h.visa, "k").Status; got != want {
			t.Errorf("a key whose refund has %s ended with %d, want %d", status, got, want)
		}
	}
}

// endWindow ends the window in which a cancel's refund may be sent, and parks
// the key because of that.
func (h *harness) endWindow(t *testing.T, key string) {
	t.Helper()
	h.exec(t, `UPDATE idempotency_keys SET first_sent_at = now() - interval '21 hours' WHERE key = $1`, key)
	h.finish(t)
	if parked := h.key(t, h.visa, key); parked.ParkedReason != "window_over" {
		t.Fatalf("parked for %q", parked.ParkedReason)
	}
}

// checkRefundEventsWait checks that events about a refund wait for a person.
func (h *harness) checkRefundEventsWait(t *testing.T) {
	t.Helper()
	if n := number(t, h, `
		SELECT count(*) FROM stripe_events
		WHERE object = 'refund' AND worked_at IS NULL AND last_error = 'for_a_person'`); n == 0 {
		t.Errorf("no event waits for a person: %s", h.outcomes(t))
	}
}

// TestAPartThatIsGivenBackIsShownWhateverTheCancelEndsWith: the event about it
// came while the cancel was unfinished, and nobody tells of it again.
func TestAPartThatIsGivenBackIsShownWhateverTheCancelEndsWith(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	ride := h.charged(t)
	h.onRefund(fakestripe.DropBefore, nil)
	h.cancelAs(t, h.visa, ride.ID, "k").must(t, 503, web.CodePaymentProcessorUnavailable)
	if _, err := h.fake.DashboardRefund(ride.Charge.PaymentIntent, 500); err != nil {
		t.Fatal(err)
	}
	seen := 0
	h.deliverAll(t, &seen, "snapshot")
	h.work(t)
	h.parkByHand(t, h.visa, "k")
	if _, err := h.resolver().ResolveNotRefunded(t.Context(), h.key(t, h.visa, "k"), "ann"); err != nil {
		t.Fatal(err)
	}
	h.settleDown(t)
	if got := h.given(t, "hail"); got != "charged succeeded 500" {
		t.Errorf("the ride is %s", got)
	}
}

// TestAnEventKeepsThePauseOfARefund: a look at an event lets a refund go on only
// if that ends it. Else its key would be sent again at each look, in spite of
// what it was told to wait.
func TestAnEventKeepsThePauseOfARefund(t *testing.T) {
	t.Parallel()
	for status, want := range map[string]int{"failed": 0, "pending": 0, "succeeded": 200} {
		h, ride, refund := refundedElsewhere(t)
		h.cancelAs(t, h.visa, ride.ID, "k").must(t, 202, "")
		h.exec(t, `UPDATE idempotency_keys SET run_after = now() + interval '1 hour' WHERE key = 'k'`)
		h.changeRefund(t, refund, status)
		seen := 0
		h.deliverAll(t, &seen, "snapshot")
		before := h.refundSends()
		for range 3 {
			h.work(t)
			h.complete(t)
		}
		if got := h.key(t, h.visa, "k").Status; got != want {
			t.Errorf("a refund that is %s: the key ended with %d, want %d", status, got, want)
		}
		if sends := h.refundSends() - before; want == 0 && sends != 0 {
			t.Errorf("a refund that is %s: the key's own was sent %d times in its pause", status, sends)
		}
	}
}

// refundSends counts the requests that refund.
func (h *harness) refundSends() int {
	n := 0
	for _, send := range h.fake.Ledger() {
		if send.Path == "/v1/refunds" {
			n++
		}
	}
	return n
}
