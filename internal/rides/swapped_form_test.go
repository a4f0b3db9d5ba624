package rides

import (
	"errors"
	"strings"
	"testing"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/web"
)

// In these tests the frozen forms of two keys are swapped, as a restore or a
// hand could do. What the other key has made at Stripe is never adopted, and the
// key that a person decides about is looked up, not its form (I2, I3, I6).

// swapForms gives two keys each other's frozen form.
func (h *harness) swapForms(t *testing.T, who accounts.Credentials, one, other string) {
	t.Helper()
	h.exec(t, `
		UPDATE idempotency_keys k
		SET foreign_form = o.foreign_form
		FROM idempotency_keys o
		WHERE k.account_id = $1 AND k.key = ANY ($2) AND o.account_id = $1 AND o.key = ANY ($2) AND o.key <> k.key`,
		who.AccountID, []string{one, other})
}

// checkFormRefused checks that a key is parked because of its form.
func (h *harness) checkFormRefused(t *testing.T, who accounts.Credentials, key string) phases.Record {
	t.Helper()
	seen := h.key(t, who, key)
	if got, want := seen.ParkedReason, "stripe_form"; got != want {
		t.Errorf("%s is parked for %q, want %q", key, got, want)
	}
	return seen
}

// wantUnverified checks that a decision was refused because it can't be checked.
func wantUnverified(t *testing.T, err error) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), "--unverified") {
		t.Errorf("got %v, want to be told of --unverified", err)
	}
}

func TestTheFormOfAnotherHail(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for _, key := range []string{"k", "other"} {
		h.fake.Script(fakestripe.Fault{Kind: fakestripe.DropAfter})
		h.hailAs(t, h.visa, key).must(t, 503, web.CodePaymentProcessorUnavailable)
	}
	h.swapForms(t, h.visa, "k", "other")
	for _, key := range []string{"k", "other"} {
		h.hailAs(t, h.visa, key).must(t, 409, web.CodePaymentUnderReview)
	}
	if n := number(t, h, `SELECT count(*) FROM rides WHERE payment_intent_id IS NOT NULL`); n != 0 {
		t.Errorf("%d rides show a payment, want none", n)
	}

	seen, resolver := h.checkFormRefused(t, h.visa, "k"), h.resolver()
	own, others := h.intentOf(t, "k"), h.intentOf(t, "other")
	_, err := resolver.ResolveNotCharged(t.Context(), seen, "ann")
	if possible, ok := errors.AsType[*payments.ChargePossibleError](err); !ok || possible.IntentID != own {
		t.Errorf("resolving as not charged: %v, want %s named", err, own)
	}
	for _, intent := range []string{own, others} {
		_, err := resolver.ResolveCharged(t.Context(), seen, "ann", intent)
		wantUnverified(t, err)
	}
}

func TestTheFormOfAnotherCancel(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	rides := map[string]Ride{}
	for _, key := range []string{"k", "other"} {
		rides[key] = h.hailAs(t, h.visa, "hail-"+key).must(t, 201, "").ride
		h.onRefund(fakestripe.DropAfter, nil)
		h.cancelAs(t, h.visa, rides[key].ID, key).must(t, 503, web.CodePaymentProcessorUnavailable)
	}
	h.swapForms(t, h.visa, "k", "other")
	for key, ride := range rides {
		h.cancelAs(t, h.visa, ride.ID, key).must(t, 409, web.CodePaymentUnderReview)
	}
	if n := number(t, h, `SELECT count(*) FROM rides WHERE refund_id IS NOT NULL`); n != 0 {
		t.Errorf("%d rides show a refund, want none", n)
	}

	seen, resolver := h.checkFormRefused(t, h.visa, "k"), h.resolver()
	_, err := resolver.ResolveNotRefunded(t.Context(), seen, "ann")
	wantUnverified(t, err)
	for _, refund := range h.fake.Refunds() {
		_, err := resolver.ResolveRefunded(t.Context(), seen, "ann", refund.ID)
		wantUnverified(t, err)
	}
	if _, err := resolver.ResolveRefundedUnverified(t.Context(), seen, "ann", "seen in the dashboard", "re_own"); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]Status{"k": StatusCanceled, "other": StatusCharged} {
		if got := h.rideAs(t, h.visa, rides[key].ID).Status; got != want {
			t.Errorf("the ride that %s cancels is %s, want %s", key, got, want)
		}
	}
}

// A form that can't be read names no ride, and its key is parked all the same.
func TestADamagedFormOfACancel(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	ride := h.charged(t)
	h.onRefund(fakestripe.DropBefore, nil)
	h.cancelAs(t, h.visa, ride.ID, "k").must(t, 503, web.CodePaymentProcessorUnavailable)
	h.exec(t, `UPDATE idempotency_keys SET foreign_form = '%zz' WHERE key = 'k'`)
	h.cancelAs(t, h.visa, ride.ID, "k").must(t, 409, web.CodePaymentUnderReview)
	if _, err := h.resolver().ResolveNotRefundedUnverified(t.Context(), h.checkFormRefused(t, h.visa, "k"), "ann", "nothing in the dashboard"); err != nil {
		t.Fatal(err)
	}
	h.mustStored(t, h.visa, ride.ID, "k")
}
