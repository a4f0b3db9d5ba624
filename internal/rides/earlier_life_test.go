package rides

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/web"
)

// TestAnEarlierLifeThatChargedAnotherCustomer: a ride was charged, its rows were
// lost in a fail-over, the account got another customer, and weeks later the
// client retries. Neither the service nor a person may take the card for not
// charged (I1, I3).
func TestAnEarlierLifeThatChargedAnotherCustomer(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	first := h.hailAs(t, h.visa, "k").must(t, 201, "").ride
	h.loseRows(t, h.visa)
	store := accounts.Store{Pool: h.pool}
	seen, err := store.Get(t.Context(), h.visa.AccountID)
	if err != nil {
		t.Fatal(err)
	}
	changed := seen
	changed.StripeCustomer, changed.PaymentMethod = "cus_second", "pm_second"
	if err := store.Update(t.Context(), seen, changed); err != nil {
		t.Fatal(err)
	}

	later := h.startProcess(t, nil) // it remembers no account
	later.hailAs(t, h.visa, "k")    // Stripe knows the operation with other parameters
	h.expire(t)
	h.complete(t)
	h.expire(t)
	later.hailAs(t, h.visa, "k").must(t, 409, web.CodePaymentUnderReview)
	if got := h.key(t, h.visa, "k").ParkedReason; got != "stripe_mismatch" {
		t.Errorf("parked for %q", got)
	}

	_, err = h.resolver().ResolveNotCharged(t.Context(), h.key(t, h.visa, "k"), "ann")
	if possible, ok := errors.AsType[*payments.ChargePossibleError](err); !ok || possible.IntentID != first.Charge.PaymentIntent {
		t.Errorf("resolving as not charged: %v, want %s named", err, first.Charge.PaymentIntent)
	}
	if _, err := h.resolver().ResolveCharged(t.Context(), h.key(t, h.visa, "k"), "ann", first.Charge.PaymentIntent); err == nil {
		t.Error("another customer's charge was verified for this ride")
	}
	if _, err := h.resolver().ResolveChargedUnverified(t.Context(), h.key(t, h.visa, "k"), "ann",
		"charged to the former customer before the fail-over", first.Charge.PaymentIntent, first.Charge.ID); err != nil {
		t.Fatal(err)
	}
	if again := later.hailAs(t, h.visa, "k").must(t, 201, "").ride; *again.Charge != *first.Charge {
		t.Errorf("the ride's charge is %+v, want %+v", again.Charge, first.Charge)
	}
	if n := h.fake.Charges()[first.ID]; n != 1 {
		t.Errorf("the card was charged %d times", n)
	}
}

// loseRows makes what an account has done disappear, as a fail-over to a standby
// that lagged behind does.
func (h *harness) loseRows(t *testing.T, who accounts.Credentials) {
	t.Helper()
	err := pgx.BeginFunc(t.Context(), h.pool, func(tx pgx.Tx) error {
		// A fail-over fires no triggers.
		if _, err := tx.Exec(t.Context(), `SET LOCAL session_replication_role = replica`); err != nil {
			return err
		}
		for _, table := range []string{"staged_jobs", "audit_records", "rides", "idempotency_keys"} {
			if _, err := tx.Exec(t.Context(), `DELETE FROM `+table+` WHERE account_id = $1`, who.AccountID); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
