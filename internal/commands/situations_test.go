package commands

import (
	"net/http"
	"testing"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
)

// A situation is one way in which a key comes to be parked.
type situation struct {
	reason, story string
	park          func(t *testing.T, d *desk, key string)
	// asked and deaf are what each exit does, in the order of exits, when Stripe
	// answers and when it is out of reach.
	asked, deaf string

	// customer and method replace those of an account whose card works.
	customer, method string
	phases           string // --phases
}

// noStripe is what the exits do without Stripe, unless the ride says by itself
// what became of it.
const noStripe = "waits refused refused 201 402 refused"

// situations returns at least one for each reason.
func situations() []situation {
	return append(situationsOfAnswers(), situationsOfOurs()...)
}

// situationsOfAnswers are those in which an answer of Stripe's parks a key.
func situationsOfAnswers() []situation {
	return []situation{
		{
			reason: "stripe_mismatch", story: "the answer has another amount", asked: "201 201 refused 201 402 refused", deaf: noStripe,
			park: func(t *testing.T, d *desk, key string) {
				t.Helper()
				d.fault(key, fakestripe.Fault{Kind: fakestripe.OtherObject, Set: map[string]any{"amount": 1}})
				d.hails(t, key, 409)
			},
		},
		{
			reason: "stripe_mismatch", story: "an earlier life charged a former customer", asked: "parked refused refused 201 402 refused", deaf: noStripe,
			park: func(t *testing.T, d *desk, key string) {
				t.Helper()
				d.fault(key, fakestripe.Fault{Kind: fakestripe.DropAfter})
				d.hails(t, key, 503)
				d.exec(t, `UPDATE idempotency_keys SET foreign_form = replace(foreign_form, 'cus_visa', 'cus_second') WHERE key = $1`, key)
				d.exec(t, `UPDATE accounts SET stripe_customer = 'cus_second', former_customers = '{cus_visa}'`)
				d.hails(t, key, 409)
				d.exec(t, `UPDATE accounts SET stripe_customer = 'cus_visa', former_customers = '{cus_second}'`)
			},
		},
		{
			reason: "stripe_unexpected", story: "the answer asks for the rider", asked: "201 201 refused 201 402 refused", deaf: noStripe,
			park: func(t *testing.T, d *desk, key string) {
				t.Helper()
				d.fault(key, fakestripe.Fault{Kind: fakestripe.OtherObject, Set: map[string]any{"status": "requires_action"}})
				d.hails(t, key, 409)
			},
		},
		{
			reason: "stripe_refunded", story: "refunded before we knew", asked: "parked refused 402 201 402 refused", deaf: noStripe,
			park: func(t *testing.T, d *desk, key string) {
				t.Helper()
				d.lose(t, key)
				intent, _, _ := d.charged(key)
				d.post(t, "/v1/refunds", "payment_intent="+intent)
				d.hails(t, key, 409)
			},
		},
		{
			reason: "stripe_refunded", story: "disputed before we knew", asked: "parked 201 refused 201 402 refused", deaf: noStripe,
			park: func(t *testing.T, d *desk, key string) {
				t.Helper()
				d.lose(t, key)
				intent, _, _ := d.charged(key)
				if err := d.fake.Dispute(intent, ""); err != nil {
					t.Fatal(err)
				}
				d.hails(t, key, 409)
			},
		},
		{
			reason: "stripe_refunded", story: "refunded and disputed before we knew", asked: "parked 201 refused 201 402 refused", deaf: noStripe,
			park: func(t *testing.T, d *desk, key string) {
				t.Helper()
				d.lose(t, key)
				intent, _, _ := d.charged(key)
				d.post(t, "/v1/refunds", "payment_intent="+intent)
				if err := d.fake.Dispute(intent, ""); err != nil {
					t.Fatal(err)
				}
				d.hails(t, key, 409)
			},
		},
		{
			reason: "stripe_more_than_one", story: "somebody repeated the charge", asked: "parked 201 refused 201 402 refused", deaf: noStripe,
			park: func(t *testing.T, d *desk, key string) {
				t.Helper()
				d.fault(key, fakestripe.Fault{Kind: fakestripe.Saved500WithEffect})
				d.hails(t, key, 503)
				d.chargeAgain(t, key)
				d.hails(t, key, 409)
			},
		},
		{
			reason: "stripe_400", story: "no such customer, after a lost send", asked: "parked refused 402 201 402 refused", deaf: noStripe,
			customer: "cus_nope",
			park: func(t *testing.T, d *desk, key string) {
				t.Helper()
				d.fault(key, fakestripe.Fault{Kind: fakestripe.DropBefore})
				d.hails(t, key, 503, 409)
			},
		},
		{
			reason: "stripe_400", story: "saved by Stripe", asked: "parked refused 402 201 402 refused", deaf: noStripe,
			park: func(t *testing.T, d *desk, key string) {
				t.Helper()
				d.fault(key, fakestripe.Fault{Kind: fakestripe.Saved400})
				d.hails(t, key, 503, 409)
			},
		},
		{
			reason: "stripe_400", story: "whenever it is sent", asked: "parked refused 402 201 402 refused", deaf: noStripe,
			park: func(t *testing.T, d *desk, key string) {
				t.Helper()
				d.fault(key, fakestripe.Fault{Kind: fakestripe.BadRequest400, Times: -1})
				d.hails(t, key, 503)
				d.complete(t, d.stripeURL, key)
			},
		},
		{
			reason: "stripe_403", story: "whenever it is sent", asked: "parked refused 402 201 402 refused", deaf: noStripe,
			park: func(t *testing.T, d *desk, key string) {
				t.Helper()
				d.fault(key, fakestripe.Fault{Kind: fakestripe.Forbidden403, Times: -1})
				d.hails(t, key, 503)
				d.complete(t, d.stripeURL, key)
			},
		},
		{
			reason: "stripe_idempotency_error", story: "somebody else used the key", asked: "parked refused 402 201 402 refused", deaf: noStripe,
			park: func(t *testing.T, d *desk, key string) {
				t.Helper()
				d.sendAs(t, d.operation(key), http.MethodPost, "/v1/payment_intents", "amount=500&currency=usd")
				d.hails(t, key, 409)
			},
		},
		{
			reason: "stripe_500", story: "saved by Stripe, without effect", asked: "parked refused 402 201 402 refused", deaf: noStripe,
			park: func(t *testing.T, d *desk, key string) {
				t.Helper()
				d.fault(key, fakestripe.Fault{Kind: fakestripe.Saved500WithoutEffect})
				d.hails(t, key, 503, 503)
				d.exec(t, `UPDATE idempotency_keys SET find_until = now() WHERE key = $1`, key)
				d.hails(t, key, 409)
			},
		},
		{
			reason: "window_over", story: "still processing", asked: "parked refused refused 201 402 refused", deaf: noStripe,
			method: "pm_fake_processing",
			park: func(t *testing.T, d *desk, key string) {
				t.Helper()
				d.hails(t, key, 503)
				d.endWindow(t, key)
			},
		},
		{
			reason: "window_over", story: "was processing, and is settled", asked: "201 201 refused 201 402 refused", deaf: noStripe,
			method: "pm_fake_processing",
			park: func(t *testing.T, d *desk, key string) {
				t.Helper()
				d.hails(t, key, 503)
				d.endWindow(t, key)
				intent, _, _ := d.charged(key)
				if err := d.fake.Settle(intent); err != nil {
					t.Fatal(err)
				}
			},
		},
	}
}

// situationsOfOurs are those in which the engine or a person parks a key.
func situationsOfOurs() []situation {
	return []situation{
		{
			reason: "operator", story: "charged, and the answer lost", asked: "201 201 refused 201 402 refused", deaf: noStripe,
			park: func(t *testing.T, d *desk, key string) {
				t.Helper()
				d.lose(t, key)
				d.parkByHand(t, key)
			},
		},
		{
			reason: "operator", story: "never sent", asked: "201 refused 402 201 402 refused", deaf: noStripe,
			park: func(t *testing.T, d *desk, key string) {
				t.Helper()
				d.fault(key, fakestripe.Fault{Kind: fakestripe.DropBefore})
				d.hails(t, key, 503)
				d.parkByHand(t, key)
			},
		},
		{
			reason: "window_over", story: "no send left a trace", asked: "parked refused 402 201 402 refused", deaf: noStripe,
			park: func(t *testing.T, d *desk, key string) {
				t.Helper()
				d.fault(key, fakestripe.Fault{Kind: fakestripe.DropBefore})
				d.hails(t, key, 503)
				d.endWindow(t, key)
			},
		},
		{
			reason: "stripe_form", story: "the form was changed", asked: "parked refused 402 201 402 refused", deaf: "parked refused refused 201 402 refused",
			park: func(t *testing.T, d *desk, key string) {
				t.Helper()
				d.fault(key, fakestripe.Fault{Kind: fakestripe.DropBefore})
				d.hails(t, key, 503)
				d.exec(t, `UPDATE idempotency_keys SET foreign_form = replace(foreign_form, foreign_key, 'another') WHERE key = $1`, key)
				d.hails(t, key, 409)
			},
		},
		{
			reason: "stripe_form", story: "charged, and the form was changed", asked: "parked refused refused 201 402 refused", deaf: "parked refused refused 201 402 refused",
			park: func(t *testing.T, d *desk, key string) {
				t.Helper()
				d.lose(t, key)
				d.exec(t, `UPDATE idempotency_keys SET foreign_form = '%zz' WHERE key = $1`, key)
				d.hails(t, key, 409)
			},
		},
		{
			reason: "max_attempts", story: "the ride could not be inserted", asked: "201 refused 402 refused 402 refused", deaf: "waits refused refused refused 402 refused",
			phases: "stepwise",
			park: func(t *testing.T, d *desk, key string) {
				t.Helper()
				d.whileBroken(t, "rides", "origin_lat", func() {
					d.hails(t, key, 500)
					d.complete(t, d.stripeURL, key)
				})
			},
		},
		{
			reason: "max_attempts", story: "the charge could not be recorded", asked: "201 201 refused 201 402 refused", deaf: noStripe,
			park: func(t *testing.T, d *desk, key string) {
				t.Helper()
				d.whileBroken(t, "rides", "charge_id", func() {
					d.hails(t, key, 500)
					d.complete(t, d.stripeURL, key)
				})
			},
		},
		{
			reason: "max_attempts", story: "charged, and the receipt could not be staged",
			asked: "201 refused refused refused refused refused", deaf: "201 refused refused refused refused refused",
			park: func(t *testing.T, d *desk, key string) {
				t.Helper()
				d.lose(t, key) // so that the next attempt is stepwise
				d.whileBroken(t, "staged_jobs", "args", func() {
					d.hails(t, key, 500)
					d.complete(t, d.stripeURL, key)
				})
			},
		},
		{
			reason: "impossible_violation", story: "declined, and the ride is charged",
			asked: "parked refused refused 201 refused refused", deaf: "waits refused refused 201 refused refused",
			method: "pm_card_chargeCustomerFail",
			park: func(t *testing.T, d *desk, key string) {
				t.Helper()
				d.fault(key, fakestripe.Fault{Kind: fakestripe.DropBefore})
				d.hails(t, key, 503)
				d.exec(t, `UPDATE rides SET status = 'charged', charge_id = 'ch_' || key, payment_intent_id = 'pi_' || key WHERE key = $1`, key)
				d.complete(t, d.stripeURL, key)
			},
		},
	}
}

// lose hails a ride that is charged, without the service's getting to know.
func (d *desk) lose(t *testing.T, key string) {
	t.Helper()
	d.fault(key, fakestripe.Fault{Kind: fakestripe.DropAfter})
	d.hails(t, key, http.StatusServiceUnavailable)
}

func (d *desk) parkByHand(t *testing.T, key string) {
	t.Helper()
	if code, said := d.operate(t, "", "keys", "park", key); code != 0 {
		t.Fatalf("keys park: exit %d: %s", code, said)
	}
}

// endWindow makes a key too old to be sent again, and lets a client ask.
func (d *desk) endWindow(t *testing.T, key string) {
	t.Helper()
	d.exec(t, `UPDATE idempotency_keys SET first_sent_at = now() - interval '21 hours' WHERE key = $1`, key)
	d.hails(t, key, http.StatusConflict)
}

// whileBroken hides a column of a table while do runs.
func (d *desk) whileBroken(t *testing.T, table, column string, do func()) {
	t.Helper()
	d.exec(t, `ALTER TABLE `+table+` RENAME COLUMN `+column+` TO hidden`)
	do()
	d.exec(t, `ALTER TABLE `+table+` RENAME COLUMN hidden TO `+column)
}
