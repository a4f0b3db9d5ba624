package rides

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/web"
)

// chargedLate returns a ride that was declined, and the payment intent that
// somebody confirmed afterwards with another card.
func chargedLate(t *testing.T) (h *harness, ride Ride, intent string) {
	t.Helper()
	h = newHarness(t)
	h.hailAs(t, h.declined, "k").must(t, 402, web.CodeCardDeclined)
	ride = h.rideAs(t, h.declined, rideID(h.declined.AccountID, "k"))
	intent = h.fake.PaymentIntents()[0].ID
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/payment_intents/"+intent+"/confirm?payment_method=pm_card_visa", nil)
	request.Header.Set("Authorization", "Bearer "+stripeKey)
	recorder := httptest.NewRecorder()
	if h.fake.ServeHTTP(recorder, request); recorder.Code != http.StatusOK {
		t.Fatalf("confirming: %d %s", recorder.Code, recorder.Body)
	}
	return h, ride, intent
}

// refundLate refunds as the service does on its own.
func (h *harness) refundLate(t *testing.T, ride Ride, intent string) (phases.Result, error) {
	t.Helper()
	flow := refundLate(h.process.stripe, accounts.Store{Pool: h.pool})
	return startRefundLate(t.Context(), h.engine, flow, h.declined.AccountID, ride.ID, intent)
}

func TestALateSuccessIsRefunded(t *testing.T) {
	t.Parallel()
	h, ride, intent := chargedLate(t)
	h.onRefund(fakestripe.DropAfter, nil)
	if _, err := h.refundLate(t, ride, intent); err == nil {
		t.Error("the lost answer was believed")
	}
	h.expire(t)
	if counts := h.complete(t); counts.Finished != 1 {
		t.Errorf("the completer did %+v", counts)
	}
	for range 2 {
		if _, err := h.refundLate(t, ride, intent); err != nil {
			t.Fatal(err)
		}
	}
	seen := h.rideAs(t, h.declined, ride.ID)
	if seen.Status != StatusDeclined || seen.Refund == nil || seen.Refund.Status != "succeeded" || seen.Refund.Money != ride.Fare || seen.Charge != nil {
		t.Errorf("the ride is %s with %+v and %+v", seen.Status, seen.Refund, seen.Charge)
	}
	if all := h.fake.Refunds(); len(all) != 1 || all[0].Intent != intent || all[0].Amount != ride.Fare.Amount {
		t.Errorf("Stripe has %+v", all)
	}
	h.hailAs(t, h.declined, "k").must(t, 402, web.CodeCardDeclined)
	h.checkRefundSends(t)
	if n := number(t, h, `SELECT count(*) FROM audit_records WHERE action = 'ride.refunded_late' AND ride_id = $1 AND data->>'payment_intent' = $2`, ride.ID, intent); n != 1 {
		t.Errorf("%d records of it", n)
	}
	if n := number(t, h, `SELECT count(*) FROM staged_jobs WHERE key <> 'k'`); n != 0 {
		t.Errorf("%d jobs tell of it", n)
	}
}

// failedLate returns a ride that was charged late, and whose refund has failed.
func failedLate(t *testing.T) (*harness, Ride, string) {
	t.Helper()
	h, ride, intent := chargedLate(t)
	h.refundsAs("failed")
	if _, err := h.refundLate(t, ride, intent); err == nil {
		t.Error("a failed refund was believed")
	}
	return h, ride, intent
}

// TestALateRefundThatFailsIsParked: the money of a declined ride must go back,
// so a person is told if it doesn't.
func TestALateRefundThatFailsIsParked(t *testing.T) {
	t.Parallel()
	h, ride, intent := failedLate(t)
	parked := h.key(t, h.declined, lateKey(intent))
	if parked.ParkedReason != "refund_refused" {
		t.Errorf("parked for %q", parked.ParkedReason)
	}
	if _, err := h.fake.DashboardRefund(intent, 0); err != nil {
		t.Fatal(err)
	}
	refunds := h.fake.Refunds()
	if _, err := h.resolver().ResolveRefunded(t.Context(), parked, "ann", refunds[len(refunds)-1].ID); err != nil {
		t.Fatal(err)
	}
	if seen := h.rideAs(t, h.declined, ride.ID); seen.Status != StatusDeclined || seen.Refund == nil || seen.Refund.Status != "succeeded" {
		t.Errorf("the ride is %s with %+v", seen.Status, seen.Refund)
	}
}

// TestALateRefundThatGaveNothingBackOffersNoCancel: its ride is declined, and no
// key can cancel that.
func TestALateRefundThatGaveNothingBackOffersNoCancel(t *testing.T) {
	t.Parallel()
	h, ride, intent := failedLate(t)
	result, err := h.resolver().ResolveNotRefunded(t.Context(), h.key(t, h.declined, lateKey(intent)), "ann")
	if err != nil {
		t.Fatal(err)
	}
	if result.Answer.Status != 409 || strings.Contains(string(result.Answer.Body), "ancel the ride") || strings.Contains(string(result.Answer.Body), "new Idempotency-Key") {
		t.Errorf("answered %d %s", result.Answer.Status, result.Answer.Body)
	}
	if seen := h.rideAs(t, h.declined, ride.ID); seen.Status != StatusDeclined {
		t.Errorf("the ride is %s", seen.Status)
	}
}

// TestOnlyADeclinedRideIsRefundedLate: nobody asked to cancel any other.
func TestOnlyADeclinedRideIsRefundedLate(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	ride := h.charged(t)
	for _, account := range []string{h.visa.AccountID, h.second.AccountID} {
		if _, err := startRefundLate(t.Context(), h.engine, refundLate(h.process.stripe, accounts.Store{Pool: h.pool}), account, ride.ID, ride.Charge.PaymentIntent); err == nil {
			t.Error("a charged ride was refunded")
		}
	}
	h.wantNoKey(t, lateKey(ride.Charge.PaymentIntent))
	if n := len(h.fake.Refunds()); n != 0 {
		t.Errorf("Stripe has %d refunds", n)
	}
}

// TestNoClientCanSendTheKeyOfALateRefund: a client's key must never meet one of ours.
func TestNoClientCanSendTheKeyOfALateRefund(t *testing.T) {
	t.Parallel()
	late, failed := lateKey("pi_1"), failedKey("re_1")
	for _, sent := range []string{late, `"` + late + `"`, failed, `"` + failed + `"`} {
		if got, err := web.ParseIdempotencyKey(http.Header{"Idempotency-Key": {sent}}); err == nil {
			t.Errorf("%q was read as %q", sent, got)
		}
	}
}
