package rides

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
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

// forget reaps all finished keys and deletes their rows.
func (h *harness) forget(t *testing.T) {
	t.Helper()
	completer := phases.Completer{Engine: h.engine, Poll: time.Millisecond, Concurrency: 1, Retention: time.Nanosecond, Tombstones: time.Nanosecond}
	for number(t, h, `SELECT count(*) FROM idempotency_keys`) > 0 {
		if _, err := completer.Once(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// stricter returns a process whose rules are stricter than the harness's.
func (h *harness) stricter(t *testing.T) *process {
	t.Helper()
	config := h.config
	config.MaxFare = 1000
	service := NewService(config)
	service.rerunTimeout = time.Second
	return h.serving(t, service.Handler())
}

// TestAKeyThatChargedIsNeverNew: whatever is wrong with a request by the rules
// of today, its key charged under a row that is gone. A client that is told to
// take a new key would pay twice (I1).
func TestAKeyThatChargedIsNeverNew(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	const private = `{"origin":` + sanFranciscoJSON + `,"target":` + oaklandJSON + `,"callback_url":"http://127.0.0.1/"}`
	ride := h.charged(t)
	h.hailAs(t, h.declined, "hail").must(t, 402, web.CodeCardDeclined)
	h.forget(t)
	strict := h.stricter(t)
	for _, body := range []string{aRide, private, `{"a":1}`} {
		for _, who := range []accounts.Credentials{h.visa, h.declined} {
			r := strict.send(t, call{method: "POST", path: "/v1/rides", body: body, key: "hail", as: who})
			if r.must(t, 422, web.CodeIdempotencyKeyExpired); r.problem.SafeNewKey {
				t.Errorf("%s: %s", body, r.body)
			}
		}
	}
	// The key of another account, or of a cancel, has hailed nothing.
	r := strict.hailAs(t, h.second, "hail").must(t, 422, web.CodeInvalidParameters)
	h.cancelAs(t, h.visa, ride.ID, "cancel").must(t, 200, "")
	h.forget(t)
	for _, r := range []reply{r, strict.hailAs(t, h.visa, "cancel").must(t, 422, web.CodeInvalidParameters)} {
		if !r.problem.SafeNewKey {
			t.Errorf("nothing was charged under this key: %s", r.body)
		}
	}
	if n := number(t, h, `SELECT count(*) FROM idempotency_keys`); n != 0 {
		t.Errorf("%d refused requests left keys", n)
	}
}

// TestAKeyThatChargesWhileAnotherRequestIsChecked: two requests come at once
// under a key, and the checks refuse the second after the first has charged. Its
// key is in use, and has not expired.
func TestAKeyThatChargesWhileAnotherRequestIsChecked(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	router := h.service.router()
	router.Post("/v1/late", h.service.keyed(keyedRoute{
		flow: h.service.hail,
		check: func(context.Context, *phases.Request, []byte) error { // the key was looked up before
			if r := h.hailAs(t, h.visa, "k"); r.status != 201 {
				t.Errorf("the first request is answered %d %s", r.status, r.body)
			}
			return invalidNew(nil)
		},
	}))
	late := h.serving(t, router)
	late.undocumented = true
	second := call{method: "POST", path: "/v1/late", body: aRide, key: "k", as: h.visa}
	if r := late.send(t, second).must(t, 503, web.CodeUnavailable); r.problem.SafeNewKey || !r.problem.Retryable {
		t.Errorf("the second request is answered %s", r.body)
	}
	late.send(t, second).must(t, 422, web.CodeIdempotencyKeyReused)
}

// TestWhileNobodyKnowsWhetherAKeyIsNew: a refusal says nothing of the key while
// the database can't say whether it has charged.
func TestWhileNobodyKnowsWhetherAKeyIsNew(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.charged(t)
	h.forget(t)
	strict := h.stricter(t)
	strict.hailAs(t, h.visa, "hail").must(t, 422, web.CodeIdempotencyKeyExpired) // the account is known from here on
	err := pgx.BeginFunc(t.Context(), h.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `LOCK TABLE rides IN ACCESS EXCLUSIVE MODE`); err != nil {
			return err
		}
		if r := strict.hailAs(t, h.visa, "hail").must(t, 503, web.CodeUnavailable); r.problem.SafeNewKey {
			t.Errorf("nobody has looked: %s", r.body)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestAKeyIsOfOneRequest: also when its row is gone, the key of a hail cancels
// nothing, and a cancel is not done again under its key.
func TestAKeyIsOfOneRequest(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	ride := h.charged(t)
	other := h.hailAs(t, h.visa, "other").must(t, 201, "").ride
	h.forget(t)
	expired := func(ride Ride, key string) {
		t.Helper()
		for _, body := range []string{"", `{"a":1}`} {
			r := h.send(t, call{method: "POST", path: ridePath(ride.ID) + "/cancel", body: body, key: key, as: h.visa})
			if r.must(t, 422, web.CodeIdempotencyKeyExpired); r.problem.SafeNewKey || strings.Contains(r.body, "not used up") {
				t.Errorf("canceling under %s: %s", key, r.body)
			}
		}
		h.wantNoKey(t, key)
	}
	expired(ride, "hail")
	expired(other, "hail")
	if n := len(h.fake.Refunds()); n != 0 {
		t.Errorf("%d refunds were made", n)
	}
	h.cancelAs(t, h.visa, ride.ID, "cancel").must(t, 200, "")
	h.forget(t)
	expired(ride, "cancel")
	expired(ride, "hail")
	h.cancelAs(t, h.visa, other.ID, "later").must(t, 200, "")
	h.checkCanceled(t, h.visa, other.ID, "later")
}
