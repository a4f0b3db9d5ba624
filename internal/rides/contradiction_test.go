package rides

import (
	"net/http"
	"testing"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/web"
)

// These tests make a ride contradict its key: the ride is charged or missing,
// but the key's recovery point is before the charge. Declining such a ride must
// fail and change nothing, and the client must never be told that nothing was
// charged (I3, I12).

// chargeByHand marks the ride of a key as charged.
func (h *harness) chargeByHand(t *testing.T, who accounts.Credentials, key string) {
	t.Helper()
	h.exec(t, `
		UPDATE rides
		SET status = 'charged', charge_id = 'ch_other', payment_intent_id = 'pi_other'
		WHERE account_id = $1 AND key = $2`,
		who.AccountID, key)
}

// checkStillCharged checks that the ride is as chargeByHand left it and that
// its key has no answer.
func (h *harness) checkStillCharged(t *testing.T, who accounts.Credentials, key string) {
	t.Helper()
	if n := number(t, h, `
		SELECT count(*)
		FROM rides
		WHERE account_id = $1 AND key = $2 AND status = 'charged' AND payment_intent_id = 'pi_other'`,
		who.AccountID, key); n != 1 {
		t.Error("the ride was changed")
	}
	if record := h.key(t, who, key); record.FinishedAt != nil || record.RecoveryPoint != pointRide {
		t.Errorf("the key was moved: %+v", record)
	}
}

func TestADeclinedCardOfAChargedRideIsParked(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.fake.Script(fakestripe.Fault{Kind: fakestripe.DropBefore})
	h.hailAs(t, h.declined, "k").must(t, 503, web.CodePaymentProcessorUnavailable)
	h.chargeByHand(t, h.declined, "k")

	h.hailAs(t, h.declined, "k").must(t, 500, web.CodeInternal) // and not 402
	h.checkStillCharged(t, h.declined, "k")

	h.expire(t)
	if counts := h.complete(t); counts.Parked != 1 {
		t.Errorf("the completer did %+v, want one key parked", counts)
	}
	if got := h.key(t, h.declined, "k").ParkedReason; got != "impossible_violation" {
		t.Errorf("parked for %q", got)
	}
	h.hailAs(t, h.declined, "k").must(t, 409, web.CodePaymentUnderReview)
	h.checkStillCharged(t, h.declined, "k")
}

func TestAChargedRideIsNotResolvedAsNotCharged(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.fake.Script(fakestripe.Fault{Kind: fakestripe.DropBefore})
	h.hailAs(t, h.visa, "k").must(t, 503, web.CodePaymentProcessorUnavailable)
	h.parkByHand(t, h.visa, "k")
	h.chargeByHand(t, h.visa, "k")

	resolver := h.resolver()
	if result, err := resolver.ResolveNotCharged(t.Context(), h.key(t, h.visa, "k"), "ann"); err == nil {
		t.Errorf("it was resolved with %d", result.Answer.Status)
	}
	if got := h.key(t, h.visa, "k").ParkedReason; got != "operator" {
		t.Errorf("the key is parked for %q", got)
	}
	h.checkStillCharged(t, h.visa, "k")
}

func TestAMissingRideIsNotResolvedAsNotCharged(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.fake.Script(fakestripe.Fault{Kind: fakestripe.DropBefore})
	h.hailAs(t, h.visa, "k").must(t, 503, web.CodePaymentProcessorUnavailable)
	h.parkByHand(t, h.visa, "k")
	h.exec(t, `DELETE FROM rides WHERE account_id = $1`, h.visa.AccountID)

	resolver := h.resolver()
	if result, err := resolver.ResolveNotCharged(t.Context(), h.key(t, h.visa, "k"), "ann"); err == nil {
		t.Errorf("it was resolved with %d", result.Answer.Status)
	}
	if got := h.key(t, h.visa, "k").ParkedReason; got != "operator" {
		t.Errorf("the key is parked for %q", got)
	}
}

// TestARideOfAnEarlierLifeIsNotDeclined: if a ride exists although its key is
// at its start, the ride belongs to an earlier life of the key.
func TestARideOfAnEarlierLifeIsNotDeclined(t *testing.T) {
	t.Parallel()
	h := newHarness(t, stepwise)
	h.exec(t, `ALTER TABLE rides ADD CONSTRAINT none CHECK (false) NOT VALID`)
	h.hailAs(t, h.visa, "k").must(t, 500, web.CodeInternal)
	h.exec(t, `ALTER TABLE rides DROP CONSTRAINT none`)
	h.parkByHand(t, h.visa, "k")
	h.exec(t, `
		INSERT INTO rides (account_id, id, key, status, origin_lat, origin_lon, target_lat, target_lon,
		       fare_amount, fare_currency, charge_id, payment_intent_id, created_at)
		VALUES ($1, $2, 'k', 'charged', 0, 0, 0, 0, 500, 'usd', 'ch_other', 'pi_other', now())`,
		h.visa.AccountID, rideID(h.visa.AccountID, "k"))

	resolver := h.resolver()
	if result, err := resolver.ResolveNotCharged(t.Context(), h.key(t, h.visa, "k"), "ann"); err == nil {
		t.Errorf("it was resolved with %d", result.Answer.Status)
	}
	if r := h.hailAs(t, h.visa, "k"); r.status == http.StatusPaymentRequired {
		t.Errorf("the client is told that nothing was charged: %s", r.body)
	}
	ride := h.send(t, call{method: "GET", path: ridePath(rideID(h.visa.AccountID, "k")), as: h.visa}).must(t, 200, "").ride
	if ride.Charge == nil || ride.Charge.ID != "ch_other" {
		t.Errorf("the ride's charge is %v", ride.Charge)
	}
}

// parkByHand parks an unfinished key, and ends its last worker's lease.
func (h *harness) parkByHand(t *testing.T, who accounts.Credentials, key string) {
	t.Helper()
	if err := (phases.Keys{Pool: h.pool}).Park(t.Context(), h.key(t, who, key), "ann"); err != nil {
		t.Fatal(err)
	}
	h.expire(t)
}
