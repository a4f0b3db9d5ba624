package rides

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/internal/web"
)

// given returns what the database says of the refund and the dispute of a ride.
func (h *harness) given(t *testing.T, key string) string {
	t.Helper()
	return text(t, h, `
		SELECT concat_ws(' ', status, refund_status, refund_amount, CASE WHEN disputed THEN 'disputed' END, CASE WHEN refund_blocked THEN 'blocked' END)
		FROM rides WHERE account_id = $1 AND key = $2`, h.visa.AccountID, key)
}

// TestWhatIsDoneAtTheDashboardIsShown: refunds and disputes that somebody makes
// at Stripe.
func TestWhatIsDoneAtTheDashboardIsShown(t *testing.T) {
	t.Parallel()
	h, seen := newHarness(t), 0
	h.hailAs(t, h.visa, "k").must(t, 201, "")
	intent := h.intentOf(t, "k")
	var refund string
	for _, step := range []struct {
		do   func() error
		want string
	}{
		{func() (err error) { refund, err = h.fake.DashboardRefund(intent, 500); return err }, "charged succeeded 500"},
		{func() error { return h.fake.ChangeRefund(refund, "pending") }, "charged pending 500"},
		{func() error { return h.fake.ChangeRefund(refund, "failed") }, "charged failed 500"},
		{func() error { return h.fake.Dispute(intent, "warning_needs_response") }, "charged failed 500 disputed"},
		{func() error { return h.fake.Dispute(intent, "needs_response") }, "charged failed 500 disputed blocked"},
		{func() error { return h.fake.Dispute(intent, "won") }, "charged failed 500"},
		{func() (err error) { _, err = h.fake.DashboardRefund(intent, 0); return err }, "charged succeeded 2350"},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		h.deliverAll(t, &seen, "snapshot")
		h.work(t)
		if got := h.given(t, "k"); got != step.want {
			t.Errorf("the ride is %s, want %s", got, step.want)
		}
	}
	h.checkAnswer(t, "k", 201)
	if n := number(t, h, `SELECT count(*) FROM staged_jobs WHERE kind = 'callback'`); n != 0 {
		t.Errorf("%d callbacks are staged for a ride without an address", n)
	}
}

// checkAnswer checks that the stored answer of a key is replayed, whatever
// events have changed since.
func (h *harness) checkAnswer(t *testing.T, key string, status int) {
	t.Helper()
	first := text(t, h, `SELECT convert_from(response_body, 'UTF8') FROM idempotency_keys WHERE key = $1`, key)
	if again := h.hailAs(t, h.visa, key); again.status != status || again.body != first {
		t.Errorf("the answer is %d %s, and was %s", again.status, again.body, first)
	}
}

// TestNothingOldOverwritesSomethingNew: a worker reads a dispute, stands still,
// and another shows that it is over.
func TestNothingOldOverwritesSomethingNew(t *testing.T) {
	t.Parallel()
	h, seen := newHarness(t), 0
	h.hailAs(t, h.visa, "k").must(t, 201, "")
	intent := h.intentOf(t, "k")
	h.deliverAll(t, &seen, "snapshot")
	h.work(t)
	if err := h.fake.Dispute(intent, "needs_response"); err != nil {
		t.Fatal(err)
	}
	gate := make(chan struct{})
	h.fake.Script(fakestripe.Fault{Kind: fakestripe.Delayed, HoldAfter: gate, Match: fakestripe.Match{Method: "GET", Path: "/v1/disputes"}})
	h.deliverAll(t, &seen, "snapshot")
	slow := make(chan EventCounts)
	go func() { slow <- h.work(t) }()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := h.fake.WaitSends(ctx, 1, func(s fakestripe.Send) bool { return s.Path == "/v1/disputes" && s.Status != 0 }); err != nil {
		t.Fatal(err)
	}
	for _, status := range []string{"won", "lost", "won"} {
		if err := h.fake.Dispute(intent, status); err != nil {
			t.Fatal(err)
		}
		h.deliverAll(t, &seen, "thin")
		h.workWith(t, h.startProcess(t, nil).eventWorker())
	}
	if got := h.given(t, "k"); got != "charged" {
		t.Fatalf("the ride is %s, want it not disputed", got)
	}
	close(gate)
	<-slow
	if got := h.given(t, "k"); got != "charged" {
		t.Errorf("what was read before made the ride %s", got)
	}
	h.work(t)
	if n := number(t, h, `SELECT count(*) FROM stripe_events WHERE worked_at IS NULL`); n != 0 {
		t.Errorf("%d events wait", n)
	}
}

// TestNothingConfirmsADeclinedPayment: the payment intent of every 402 is
// canceled, whatever stands in the way.
func TestNothingConfirmsADeclinedPayment(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.hailAs(t, h.declined, "k").must(t, 402, web.CodeCardDeclined)
	cancel := fakestripe.Match{PathPrefix: "/v1/payment_intents/"}
	for _, kind := range []fakestripe.Kind{fakestripe.Unavailable503, fakestripe.DropBefore, fakestripe.DropAfter} {
		h.fake.Script(fakestripe.Fault{Kind: kind, Match: cancel})
		if counts := h.work(t); counts.Closed != 0 {
			t.Errorf("%s: %+v", kind, counts)
		}
		if n := number(t, h, `SELECT count(*) FROM open_intents WHERE last_error <> ''`); n != 1 {
			t.Errorf("%s: %d payment intents are noted", kind, n)
		}
	}
	if counts := h.work(t); counts.Closed != 1 {
		t.Errorf("the worker did %+v", counts)
	}
	if got := h.fake.PaymentIntents()[0].Status; got != "canceled" {
		t.Errorf("the payment intent is %s", got)
	}
	if n := number(t, h, `SELECT count(*) FROM open_intents`); n != 0 {
		t.Errorf("%d payment intents are still noted", n)
	}
	h.hailAs(t, h.declined, "k").must(t, 402, web.CodeCardDeclined)

	// A ride of the release before has no note, until an event comes.
	seen := 0
	h.told(t, &seen)
	h.hailAs(t, h.declined, "old").must(t, 402, web.CodeCardDeclined)
	h.exec(t, `DELETE FROM open_intents`)
	h.deliverAll(t, &seen, "thin")
	if counts := h.work(t); counts.Worked != 1 || counts.Closed != 1 {
		t.Errorf("the worker did %+v", counts)
	}
	if got := h.fake.PaymentIntents()[1].Status; got != "canceled" {
		t.Errorf("the payment intent is %s", got)
	}
}

// pay confirms a payment intent with a card that works, as somebody with access
// to Stripe can.
func (h *harness) pay(t *testing.T, intent string) {
	t.Helper()
	h.atStripe(t, "/v1/payment_intents/"+intent+"/confirm", url.Values{"payment_method": {"pm_card_visa"}, "off_session": {"true"}})
}

// atStripe makes a POST to Stripe that isn't the service's.
func (h *harness) atStripe(t *testing.T, path string, form url.Values) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.stripe+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+stripeKey)
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: Stripe answered %d", path, answer.StatusCode)
	}
}

// TestALateSuccessIsNoticed: somebody pays a ride at Stripe after its client
// was told that it is declined, whether the event says so or the attempt to
// close the payment intent does.
func TestALateSuccessIsNoticed(t *testing.T) {
	t.Parallel()
	for _, told := range []bool{true, false} {
		h, seen := newHarness(t), 0
		h.hailAs(t, h.declined, "k").must(t, 402, web.CodeCardDeclined)
		h.told(t, &seen)
		h.pay(t, h.fake.PaymentIntents()[0].ID)
		if told {
			h.deliverAll(t, &seen, "thin")
		}
		registry := prometheus.NewRegistry()
		w := h.eventWorker()
		w.Metrics = registry
		h.workWith(t, w)
		h.work(t)
		if n := value(t, registry, "rides_late_successes_total", ""); n != 1 {
			t.Errorf("the metric counts %v", n)
		}
		if n := number(t, h, `SELECT count(*) FROM audit_records WHERE action = 'ride.charged_late' AND ride_id = $1`, rideID(h.declined.AccountID, "k")); n != 1 {
			t.Errorf("%d audit records", n)
		}
		if n := number(t, h, `SELECT count(*) FROM open_intents`); n != 0 {
			t.Errorf("%d payment intents are still noted", n)
		}
		h.hailAs(t, h.declined, "k").must(t, 402, web.CodeCardDeclined)
		h.finish(t)
		if refunds := h.fake.Refunds(); len(refunds) != 1 || refunds[0].Status != "succeeded" || refunds[0].Amount != 2350 {
			t.Errorf("Stripe has the refunds %+v", refunds)
		}
		if got := text(t, h, `SELECT concat_ws(' ', status, refund_status, refund_amount) FROM rides WHERE account_id = $1`, h.declined.AccountID); got != "declined succeeded 2350" {
			t.Errorf("the ride is %s", got)
		}
	}
}

// TestARefundThatFailsAfterTheAnswer: the cancel was answered with 200; the
// answer and the status stay, the client gets a callback, and a person is told.
func TestARefundThatFailsAfterTheAnswer(t *testing.T) {
	t.Parallel()
	h, seen := newHarness(t), 0
	body := strings.TrimSuffix(aRide, "}") + `,"callback_url":"https://example.com/hook"}`
	hailed := h.send(t, call{method: "POST", path: "/v1/rides", body: body, key: "k", as: h.visa}).must(t, 201, "").ride
	cancel := call{method: "POST", path: "/v1/rides/" + hailed.ID + "/cancel", key: "c", as: h.visa}
	answer := h.send(t, cancel).must(t, 200, "")
	h.deliverAll(t, &seen, "snapshot")
	h.work(t)
	if got := h.given(t, "k"); got != "canceled succeeded 2350" {
		t.Fatalf("the ride is %s", got)
	}
	refund := h.fake.Refunds()[0].ID
	for _, key := range []string{"refund_failed " + refund, "refund_failed" + refund, "refund_failed->" + refund} {
		// Its callback must not be taken for the one about the refund.
		h.send(t, call{method: "POST", path: "/v1/rides", body: body, key: `"` + key + `"`, as: h.visa}).must(t, 201, "")
	}
	if err := h.fake.ChangeRefund(refund, "failed"); err != nil {
		t.Fatal(err)
	}
	h.deliverAll(t, &seen, "thin")
	told := 0.0
	for range 3 {
		h.makeEventsDue(t)
		told += h.tellCount(t, "rides_refunds_failed_total")
		seen = 0
		h.deliverAll(t, &seen, "thin")
	}
	if got := h.given(t, "k"); got != "canceled failed 2350" {
		t.Errorf("the ride is %s", got)
	}
	if again := h.send(t, cancel).must(t, 200, ""); again.body != answer.body {
		t.Errorf("the answer is %s, and was %s", again.body, answer.body)
	}
	shown := h.send(t, call{method: "GET", path: "/v1/rides/" + hailed.ID, as: h.visa}).must(t, 200, "").body
	if n := number(t, h, `SELECT count(*) FROM staged_jobs WHERE kind = 'callback' AND args->>'type' = 'ride.refund_failed' AND args->>'ride' = $1`, shown); n != 1 {
		t.Errorf("%d callbacks show the ride as it is: %s", n, shown)
	}
	if n := number(t, h, `SELECT count(*) FROM audit_records WHERE action = 'ride.refund_failed' AND ride_id = $1`, hailed.ID); n != 1 {
		t.Errorf("%d audit records", n)
	}
	if told != 1 {
		t.Errorf("a person was told %v times", told)
	}
	if n := len(h.fake.Refunds()); n != 1 {
		t.Errorf("%d refunds were made, want no other by itself", n)
	}
}

// TestAPartThatFailsAfterTheAnswer: two refunds gave the fare back, one made at
// Stripe and the cancel's own. Whichever fails, the client gets a callback and a
// person is told, once, about the one that failed.
func TestAPartThatFailsAfterTheAnswer(t *testing.T) {
	t.Parallel()
	body := strings.TrimSuffix(aRide, "}") + `,"callback_url":"https://example.com/hook"}`
	for _, own := range []bool{false, true} {
		h, seen := newHarness(t), 0
		ride := h.send(t, call{method: "POST", path: "/v1/rides", body: body, key: "k", as: h.visa}).must(t, 201, "").ride
		failed, err := h.fake.DashboardRefund(ride.Charge.PaymentIntent, 500)
		if err != nil {
			t.Fatal(err)
		}
		h.cancelAs(t, h.visa, ride.ID, "c").must(t, 200, "")
		want := "canceled failed 500"
		if own {
			failed = text(t, h, `SELECT refund_id FROM rides WHERE key = 'k'`)
			want = "canceled failed 1850"
		}
		if err := h.fake.ChangeRefund(failed, "failed"); err != nil {
			t.Fatal(err)
		}
		told := 0.0
		for range 2 {
			h.deliverAll(t, &seen, "thin")
			h.makeEventsDue(t)
			told += h.tellCount(t, "rides_refunds_failed_total")
			seen = 0
		}
		if got := h.given(t, "k"); got != want {
			t.Errorf("the ride is %s, want %s", got, want)
		}
		if n := number(t, h, `
			SELECT count(*) FROM staged_jobs
			WHERE kind = 'callback' AND args->>'type' = 'ride.refund_failed' AND key = $1 AND (args->>'ride')::jsonb @> jsonb_build_object('refund', jsonb_build_object('id', $2::text))`,
			failedKey(failed), failed); n != 1 {
			t.Errorf("%d callbacks tell of %s", n, failed)
		}
		if n := number(t, h, `SELECT count(*) FROM audit_records WHERE action = 'ride.refund_failed' AND data->>'refund' = $1`, failed); n != 1 {
			t.Errorf("%d audit records tell of %s", n, failed)
		}
		if told != 1 {
			t.Errorf("a person was told %v times", told)
		}
		// A person gives it back in another way.
		if _, err := h.fake.DashboardRefund(ride.Charge.PaymentIntent, 0); err != nil {
			t.Fatal(err)
		}
		h.deliverAll(t, &seen, "snapshot")
		h.work(t)
		if got := h.given(t, "k"); got != "canceled succeeded 2350" {
			t.Errorf("when all is back, the ride is %s", got)
		}
	}
}

// TestEachFailedRefundIsToldOfOnce: two refunds gave the fare back, and both
// fail, in either order or at once. Each is told of, and nothing is told again
// when a part comes back. One that had failed before the cancel is not told of.
func TestEachFailedRefundIsToldOfOnce(t *testing.T) {
	t.Parallel()
	body := strings.TrimSuffix(aRide, "}") + `,"callback_url":"https://example.com/hook"}`
	for name, steps := range map[string][]string{"older, newer": {"older", "newer"}, "newer, older": {"newer", "older"}, "both": {"newer+older"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, seen := newHarness(t), 0
			ride := h.send(t, call{method: "POST", path: "/v1/rides", body: body, key: "k", as: h.visa}).must(t, 201, "").ride
			refunds := map[string]string{}
			give := func(name string, amount int64) {
				t.Helper()
				id, err := h.fake.DashboardRefund(ride.Charge.PaymentIntent, amount)
				if err != nil {
					t.Fatal(err)
				}
				refunds[name] = id
			}
			fail := func(name string) {
				t.Helper()
				if err := h.fake.ChangeRefund(refunds[name], "failed"); err != nil {
					t.Fatal(err)
				}
			}
			work := func() (told float64) {
				t.Helper()
				h.deliverAll(t, &seen, "thin")
				for range 3 { // an event waits if another one changes its ride meanwhile
					h.makeEventsDue(t)
					told += h.tellCount(t, "rides_refunds_failed_total")
				}
				return told
			}
			give("before", 300)
			fail("before")
			give("older", 500)
			h.cancelAs(t, h.visa, ride.ID, "c").must(t, 200, "")
			refunds["newer"] = text(t, h, `SELECT refund_id FROM rides WHERE key = 'k'`)
			if told := work(); told != 0 {
				t.Errorf("a person was told %v times before anything failed", told)
			}
			for _, step := range steps {
				names := strings.Split(step, "+")
				for _, name := range names {
					fail(name)
				}
				if told := work(); told != float64(len(names)) {
					t.Errorf("after %s a person was told %v times", step, told)
				}
				for _, name := range names {
					if n := number(t, h, `SELECT count(*) FROM audit_records WHERE action = 'ride.refund_failed' AND data->>'refund' = $1`, refunds[name]); n != 1 {
						t.Errorf("%d audit records tell of the %s one", n, name)
					}
					if n := number(t, h, `SELECT count(*) FROM staged_jobs WHERE kind = 'callback' AND args->>'type' = 'ride.refund_failed' AND key = $1`, failedKey(refunds[name])); n != 1 {
						t.Errorf("%d callbacks tell of the %s one", n, name)
					}
				}
				// A person gives back a part in another way.
				give("part", 100)
				if told := work(); told != 0 {
					t.Errorf("after a part came back a person was told %v times", told)
				}
			}
			if got, want := h.given(t, "k"), fmt.Sprint("canceled failed ", 2350-100*len(steps)); got != want {
				t.Errorf("the ride is %s, want %s", got, want)
			}
			if n := number(t, h, `SELECT count(*) FROM audit_records WHERE action = 'ride.refund_failed'`); n != 2 {
				t.Errorf("%d audit records", n)
			}
			if n := number(t, h, `SELECT count(*) FROM stripe_events WHERE worked_at IS NULL`); n != 0 {
				t.Errorf("%d events wait", n)
			}
		})
	}
}

// TestAPaymentWithoutARide: a person is told of it, once, and not before it can
// be certain that nobody makes the ride again.
func TestAPaymentWithoutARide(t *testing.T) {
	t.Parallel()
	h, seen := newHarness(t), 0
	h.hailAs(t, h.visa, "k").must(t, 201, "")
	h.loseRows(t, h.visa)
	registry := prometheus.NewRegistry()
	w := h.eventWorker()
	w.Metrics = registry
	h.deliverAll(t, &seen, "snapshot")
	if counts := h.workWith(t, w); counts.Released != 1 {
		t.Fatalf("the worker did %+v", counts)
	}
	if wait := number(t, h, `SELECT extract(epoch FROM run_after - now())::int FROM stripe_events`); wait < 500 || wait > 600 {
		t.Errorf("it is looked at again in %d s", wait)
	}
	w = h.eventWorker()
	registry = prometheus.NewRegistry()
	w.Metrics, w.orphanAge = registry, time.Nanosecond
	h.workWith(t, w)
	if got := h.outcomes(t); got != "orphan" {
		t.Errorf("the event came to %q", got)
	}
	h.deliver(t, h.fake.Events()[0].ID, "thin")
	h.workWith(t, &EventWorker{Pool: w.Pool, Engine: w.Engine, Stripe: w.Stripe, Realm: w.Realm, Poll: w.Poll, orphanAge: time.Nanosecond})
	if n := number(t, h, `SELECT count(*) FROM audit_records WHERE action = 'stripe.orphan' AND data->>'payment_intent' = $1 AND account_id = $2`,
		h.fake.PaymentIntents()[0].ID, h.visa.AccountID); n != 1 {
		t.Errorf("%d audit records", n)
	}
	if n := value(t, registry, "rides_stripe_orphans_total", ""); n != 1 {
		t.Errorf("the metric counts %v", n)
	}
	// A sweep finds it too, and tells nobody twice.
	w.Metrics = nil
	if counts, err := w.Sweep(t.Context()); err != nil || counts.Found != 1 || counts.Worked != 1 {
		t.Errorf("the sweep did %+v, %v", counts, err)
	}
	if n := number(t, h, `SELECT count(*) FROM audit_records WHERE action = 'stripe.orphan'`); n != 1 {
		t.Errorf("%d audit records after the sweep", n)
	}
	// A retry within 24 hours makes the ride again, with the charge that is
	// there.
	h.hailAs(t, h.visa, "k").must(t, 201, "")
	h.checkCharged(t, h.visa, "k")
}

// TestPaymentsOfOthersAreLeftAlone: of a shop that shares the Stripe account.
func TestPaymentsOfOthersAreLeftAlone(t *testing.T) {
	t.Parallel()
	h, seen := newHarness(t), 0
	base := url.Values{
		"amount": {"2350"}, "currency": {"usd"}, "customer": {"cus_visa"}, "payment_method": {"pm_card_visa"},
		"confirm": {"true"}, "off_session": {"true"}, "payment_method_types[]": {"card"},
	}
	for _, metadata := range []map[string]string{
		{}, {"order": "1"}, {"account_id": h.visa.AccountID}, {"account_id": "acct_neighbour", "operation": "x", "ride_id": "ride_1"},
	} {
		form := url.Values{}
		maps.Copy(form, base)
		for name, value := range metadata {
			form.Set("metadata["+name+"]", value)
		}
		h.atStripe(t, "/v1/payment_intents", form)
	}
	h.deliverAll(t, &seen, "snapshot")
	h.send(t, signed(event("evt_x", "charge.refunded", "ch_none"), eventSecret, time.Now())).must(t, 200, "")
	w := h.eventWorker()
	w.orphanAge = time.Nanosecond
	h.workWith(t, w)
	if got := h.outcomes(t); got != "not_ours not_ours not_ours not_ours no_payment" {
		t.Errorf("the events came to %s", got)
	}
	if n := number(t, h, `SELECT count(*) FROM audit_records`); n != 0 {
		t.Errorf("%d audit records", n)
	}
}

// TestAPaymentThatContradictsItsRide: nothing is changed, and a person is told.
func TestAPaymentThatContradictsItsRide(t *testing.T) {
	t.Parallel()
	h, seen := newHarness(t), 0
	h.hailAs(t, h.visa, "k").must(t, 201, "")
	h.told(t, &seen)
	ride := rideID(h.visa.AccountID, "k")
	for _, c := range []struct{ amount, operation string }{
		{"2351", operationOf(h.visa.AccountID, "k")}, // another amount
		{"2350", "another operation"},
		{"2350", operationOf(h.visa.AccountID, "k")}, // a second payment
	} {
		h.atStripe(t, "/v1/payment_intents", url.Values{
			"amount": {c.amount}, "currency": {"usd"}, "customer": {"cus_visa"}, "payment_method": {"pm_card_visa"},
			"confirm": {"true"}, "off_session": {"true"}, "payment_method_types[]": {"card"},
			"metadata[ride_id]": {ride}, "metadata[account_id]": {h.visa.AccountID}, "metadata[operation]": {strings.ReplaceAll(c.operation, " ", "_")},
		})
	}
	before := h.given(t, "k")
	h.deliverAll(t, &seen, "thin")
	registry := prometheus.NewRegistry()
	w := h.eventWorker()
	w.Metrics = registry
	h.workWith(t, w)
	if got := h.outcomes(t); got != "mismatch mismatch mismatch" || h.given(t, "k") != before {
		t.Errorf("the events came to %s, the ride is %s", got, h.given(t, "k"))
	}
	if n := value(t, registry, "rides_stripe_mismatches_total", ""); n != 3 {
		t.Errorf("the metric counts %v", n)
	}
}

// TestStripeCannotBeAsked: events wait, longer and longer.
func TestStripeCannotBeAsked(t *testing.T) {
	t.Parallel()
	h, seen := newHarness(t), 0
	h.hailAs(t, h.visa, "k").must(t, 201, "")
	h.deliverAll(t, &seen, "snapshot")
	h.fake.Script(fakestripe.Fault{Kind: fakestripe.Unavailable503, Match: fakestripe.Match{Method: "GET"}, Times: 3})
	for n := 1; n <= 3; n++ {
		if counts := h.work(t); counts.Released != 1 {
			t.Fatalf("the worker did %+v", counts)
		}
		if got := number(t, h, `SELECT count(*) FROM stripe_events WHERE attempts = $1 AND last_error LIKE '%503%' AND run_after > now()`, n); got != 1 {
			t.Errorf("after %d attempts the event is not due later", n)
		}
	}
	if counts := h.work(t); counts.Worked != 1 {
		t.Errorf("the worker did %+v", counts)
	}
	// Nothing is asked while it isn't known which account is ours.
	h.deliver(t, h.fake.Events()[0].ID, "thin")
	w := h.eventWorker()
	w.Realm = func() string { return "" }
	if counts := h.workWith(t, w); counts != (EventCounts{}) {
		t.Errorf("the worker did %+v", counts)
	}
}

// TestWorkersShareTheInbox: many workers work each event once, and Stripe is
// asked once about each object.
func TestWorkersShareTheInbox(t *testing.T) {
	t.Parallel()
	h, seen := newHarness(t), 0
	const rides = 20
	for i := range rides {
		h.hailAs(t, h.visa, fmt.Sprint("k", i)).must(t, 201, "")
	}
	for _, e := range h.told(t, &seen) {
		h.deliver(t, e.ID, "snapshot")
		h.deliver(t, e.ID, "thin")
	}
	h.exec(t, `UPDATE stripe_events SET run_after = now()`)
	reads := 0
	var group sync.WaitGroup
	for range 4 {
		w := h.startProcess(t, nil).eventWorker()
		group.Go(func() {
			if _, err := w.Once(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := h.fake.WaitSends(ctx, 0, func(s fakestripe.Send) bool {
		if s.Method == http.MethodGet {
			reads++
		}
		return false
	}); err != nil {
		t.Fatal(err)
	}
	if n := number(t, h, `SELECT count(*) FROM stripe_events WHERE outcome = 'nothing_new' AND attempts = 1`); n != 2*rides || reads != rides {
		t.Errorf("%d events were worked once, and Stripe was asked %d times", n, reads)
	}
}

// TestTheWorkerWorksByItself: in the background, until it is told to stop.
func TestTheWorkerWorksByItself(t *testing.T) {
	t.Parallel()
	h, seen := newHarness(t), 0
	w := h.eventWorker()
	registry := prometheus.NewRegistry()
	w.Metrics = registry
	background(t, w)
	h.hailAs(t, h.visa, "k").must(t, 201, "")
	h.hailAs(t, h.declined, "k").must(t, 402, web.CodeCardDeclined)
	h.deliverAll(t, &seen, "snapshot")
	pgtest.Eventually(t, "no event and no intent waits", func() bool {
		return number(t, h, `SELECT (SELECT count(*) FROM stripe_events WHERE worked_at IS NULL) + (SELECT count(*) FROM open_intents)`) == 0
	})
	pgtest.Eventually(t, "the waiting events are counted", func() bool { return value(t, registry, "rides_stripe_events_waiting", "") >= 0 })
}

func TestOldEventsGo(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.exec(t, `
		INSERT INTO stripe_events (id, type, object, object_id, livemode, received_at, worked_at, outcome, run_after)
		SELECT 'evt_' || n || c.state, 'charge.refunded', 'charge', 'ch_' || n, false, now() - n * interval '1 day',
		       CASE WHEN c.state = 'worked' THEN now() END, CASE WHEN c.state = 'worked' THEN 'nothing_new' END, now() + interval '1 hour'
		FROM generate_series(1, 40) AS n, (VALUES ('worked'), ('waiting')) AS c (state)`)
	counts, err := h.eventWorker().Once(t.Context())
	if err != nil || counts.Reaped != 11 {
		t.Errorf("the worker did %+v, %v; want the 11 from 30 days on gone", counts, err)
	}
	if n := number(t, h, `SELECT count(*) FROM stripe_events WHERE worked_at IS NULL`); n != 40 {
		t.Errorf("%d events wait, want all 40", n)
	}
}

// TestSilenceIsNoticed: charges without events, for as long as none comes.
func TestSilenceIsNoticed(t *testing.T) {
	t.Parallel()
	h, seen := newHarness(t), 0
	registry := prometheus.NewRegistry()
	w := h.eventWorker()
	w.Metrics = registry
	run := w.start()
	silence := func() float64 {
		t.Helper()
		if err := run.measure(t.Context()); err != nil {
			t.Fatal(err)
		}
		return value(t, registry, "rides_stripe_events_silence_seconds", "")
	}
	if got := silence(); got != 0 {
		t.Errorf("without charges there is a silence of %v s", got)
	}
	h.hailAs(t, h.visa, "k").must(t, 201, "")
	h.untripped(t, `UPDATE idempotency_keys SET finished_at = now() - interval '25 hours', first_sent_at = now() - interval '25 hours'`)
	h.hailAs(t, h.visa, "later").must(t, 201, "")
	if got := silence(); got < 25*3600 || got > 26*3600 {
		t.Errorf("a day after a charge there is a silence of %v s", got)
	}
	if err := run.inbox.make(t.Context(), subject{payments.ObjectIntent, "pi_swept"}, false); err != nil {
		t.Fatal(err)
	}
	if got := silence(); got < 25*3600 {
		t.Errorf("a sweep is taken for an event: there is a silence of %v s", got)
	}
	h.untripped(t, `DELETE FROM stripe_events`)
	h.deliverAll(t, &seen, "thin")
	if got := silence(); got != 0 {
		t.Errorf("events have come, and there is a silence of %v s", got)
	}
	if n, open := value(t, registry, "rides_stripe_events_waiting", ""), value(t, registry, "rides_open_payment_intents", ""); n != 2 || open != 0 {
		t.Errorf("%v events wait, and %v payment intents are open", n, open)
	}
	realm := run.Realm
	run.Realm = func() string { return "" }
	if got := silence(); got != -1 {
		t.Errorf("while no charge is ours there is a silence of %v s", got)
	}
	run.Realm = realm
	h.exec(t, `ALTER TABLE stripe_events RENAME TO gone`)
	defer h.exec(t, `ALTER TABLE gone RENAME TO stripe_events`)
	if err := run.measure(t.Context()); err == nil {
		t.Error("it counts what isn't there")
	}
	if got := value(t, registry, "rides_stripe_events_silence_seconds", ""); got != -1 {
		t.Errorf("what can't be counted is shown as %v", got)
	}
}

// TestAnEventOfAnotherReleasesKey: a key that this process doesn't know is left
// to the one that does, and so is its event.
func TestAnEventOfAnotherReleasesKey(t *testing.T) {
	t.Parallel()
	h, seen := newHarness(t), 0
	h.parkUnknown(t, "k")
	h.rollForward(t)
	h.exec(t, `UPDATE idempotency_keys SET flow_version = 99`)
	h.deliverAll(t, &seen, "snapshot")
	if counts := h.work(t); counts.Released != 1 {
		t.Errorf("the worker did %+v", counts)
	}
	if key := h.key(t, h.visa, "k"); key.ParkedReason == "" {
		t.Errorf("the key is %+v", key)
	}
}
