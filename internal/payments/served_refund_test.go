package payments

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// testPaid returns what the payment of every refund took.
func testPaid() Paid { return Paid{Amount: 2350, Currency: "usd"} }

// firstRefund returns the first send of the refund of every test.
func firstRefund() phases.Sent[RefundForm] {
	operation := phases.ForeignKey("cancel", "refund_created", "acct_1", "key 2")
	return phases.Sent[RefundForm]{
		Key: operation, First: true, FirstSentAt: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC),
		Form: NewRefundForm(RefundTerms{IntentID: "pi_1", RideID: "ride_1", AccountID: "acct_1", Operation: operation}),
	}
}

// refundWith returns the refund that firstRefund asks for, which succeeded, with
// changes.
func refundWith(changes object) object {
	refund := object{
		"id": "re_1", "object": "refund", "amount": 2350, "currency": "usd", "status": "succeeded", "payment_intent": "pi_1", "charge": "ch_1",
		"metadata": object{"ride_id": "ride_1", "account_id": "acct_1", "operation": firstRefund().Key},
	}
	maps.Copy(refund, changes)
	return refund
}

// dashboardRefund returns a refund that somebody made at Stripe's dashboard.
func dashboardRefund(id string, amount int64, status string) object {
	return refundWith(object{"id": id, "amount": amount, "status": status, "metadata": object{}})
}

// given returns a result with what a ride shows.
func given(result RefundResult, id, status string, amount int64) Refund {
	return Refund{Result: result, Given: Given{id, status, amount}, Failed: result == RefundRefused && status == GivenFailed}
}

// failedBeside returns the result of a refund that failed beside another, which
// gave back a part.
func failedBeside(id string, part int64) Refund {
	failed := given(RefundRefused, id, GivenSucceeded, part)
	failed.Failed = true
	return failed
}

// ownOpen returns the result of a refund that is on its way and is ours.
func ownOpen() Refund {
	open := given(RefundOpen, "re_1", GivenPending, 2350)
	open.Own = "re_1"
	return open
}

func refundDone() Refund { return given(RefundDone, "re_1", GivenSucceeded, 2350) }

// refundCase returns a case of Refund.
func refundCase(name, row string, handler http.HandlerFunc) servedCase {
	return servedCase{name: name, refund: true, row: "refund/" + row, answers: map[string][]http.HandlerFunc{routeRefund: {handler}}}
}

// thenList adds the list of refunds, and the row that judges it.
func (c servedCase) thenList(row string, list http.HandlerFunc) servedCase {
	c.answers[routeRefunds] = []http.HandlerFunc{list}
	c.also = append(c.also, "refunds/"+row)
	return c
}

func (c servedCase) wantRefund(want Refund) servedCase {
	c.given = want
	return c
}

func (c servedCase) wantError(class phases.Class, reason string) servedCase {
	c.class, c.reason = class, reason
	return c
}

func (c servedCase) later() servedCase {
	c.sentRefund = func(s *phases.Sent[RefundForm]) { s.First = false }
	return c
}

func servedRefunds() []servedCase {
	const replayed = "Idempotent-Replayed"
	mismatch := func(what string, changes object) servedCase {
		return refundCase("a refund with another "+what, "refund_mismatch", answerOK(refundWith(changes))).
			wantRefund(Refund{Result: RefundSuspect, Reason: "stripe_mismatch"})
	}
	metadata := func(name, value string) object {
		all := refundWith(nil)["metadata"].(object) //nolint:forcetypeassert // it is made above
		all[name] = value
		return object{"metadata": all}
	}
	unsettled := func(name string, changes object, row string, list http.HandlerFunc) servedCase {
		return refundCase(name, "refund_unsettled", answerOK(refundWith(changes))).thenList(row, list)
	}
	return []servedCase{
		refundCase("a refund of all", "refunded", answerOK(refundWith(nil))).wantRefund(refundDone()),
		mismatch("amount than is left", object{"amount": 2351}),
		mismatch("sign", object{"amount": -1}),
		mismatch("currency", object{"currency": "eur"}),
		mismatch("payment intent", object{"payment_intent": "pi_2"}),
		mismatch("operation", metadata("operation", "0123")),
		mismatch("ride", metadata("ride_id", "ride_2")),
		mismatch("account", metadata("account_id", "acct_2")),
		refundCase("a refund without a payment intent", "refund_mismatch", answerOK(refundWith(object{"payment_intent": nil}))).
			wantRefund(Refund{Result: RefundSuspect, Reason: "stripe_mismatch"}),
		refundCase("a refund whose id is no word", "refund_mismatch", answerOK(refundWith(object{"id": "re \x00"}))).
			wantRefund(Refund{Result: RefundSuspect, Reason: "stripe_mismatch"}),
		refundCase("a 200 with {}", "unreadable", answerOK(object{})).wantError(phases.Unknown, ""),
		refundCase("a 200 with a charge", "unreadable", answerOK(refundWith(object{"object": "charge"}))).wantError(phases.Unknown, ""),
		refundCase("a replayed 200 with {}", "unreadable", answerOK(object{}, replayed, "true")).wantError(phases.Unknown, ""),
		refundCase("a replayed 200 with a charge", "unreadable_saved", answerOK(refundWith(object{"object": "charge"}), replayed, "true")).wantError(phases.LookUp, "stripe_unexpected"),
		refundCase("a replayed refund that still stands", "refund_replayed", answerOK(refundWith(nil), replayed, "true")).
			thenList("refunds_done", answerPage(false, refundWith(nil))).wantRefund(refundDone()),
		refundCase("a replayed refund that failed since", "refund_replayed", answerOK(refundWith(nil), replayed, "true")).
			thenList("refunds_failed", answerPage(false, refundWith(object{"status": "failed"}))).
			wantRefund(given(RefundRefused, "re_1", GivenFailed, 2350)),
		refundCase("a replayed refund, and the list is cut", "refund_replayed", answerOK(refundWith(nil), replayed, "true")).
			thenList("look_failed", answerCut("", hangUp)).wantError(phases.Unknown, ""),
		unsettled("a pending refund", object{"status": "pending"}, "refunds_open", answerPage(false, refundWith(object{"status": "pending"}))).
			wantRefund(ownOpen()),
		unsettled("a refund that requires action", object{"status": "requires_action"}, "refunds_open",
			answerPage(false, refundWith(object{"status": "requires_action"}))).wantRefund(ownOpen()),
		unsettled("a refund that is pending and has succeeded since", object{"status": "pending"}, "refunds_done", answerPage(false, refundWith(nil))).
			wantRefund(refundDone()),
		unsettled("a refund that failed", object{"status": "failed"}, "refunds_failed", answerPage(false, refundWith(object{"status": "failed"}))).
			wantRefund(given(RefundRefused, "re_1", GivenFailed, 2350)),
		unsettled("a refund of what was left that failed", object{"amount": 1850, "status": "failed"}, "refunds_failed",
			answerPage(false, refundWith(object{"amount": 1850, "status": "failed"}), dashboardRefund("re_2", 500, "succeeded"))).
			wantRefund(failedBeside("re_2", 500)),
		unsettled("a refund that was canceled", object{"status": "canceled"}, "refunds_failed", answerPage(false, refundWith(object{"status": "canceled"}))).
			wantRefund(given(RefundRefused, "re_1", GivenFailed, 2350)),
		unsettled("a refund in an unknown state", object{"status": "lucky"}, "refunds_open", answerPage(false, refundWith(object{"status": "lucky"}))).
			wantRefund(ownOpen()),
		unsettled("a refund of what was left", object{"amount": 1850}, "refunds_done",
			answerPage(false, refundWith(object{"amount": 1850}), dashboardRefund("re_2", 500, "succeeded"))).wantRefund(refundDone()),
		unsettled("a refund of what was left, and the other part is pending", object{"amount": 1850}, "refunds_open",
			answerPage(false, refundWith(object{"amount": 1850}), dashboardRefund("re_2", 500, "pending"))).
			wantRefund(ownOpen()),
		unsettled("a refund of what was left, and the other part has failed", object{"amount": 1850}, "refunds_part",
			answerPage(false, refundWith(object{"amount": 1850}), dashboardRefund("re_2", 500, "failed"))).
			wantRefund(Refund{Result: RefundSuspect, Reason: "stripe_unexpected", Given: Given{"re_1", GivenSucceeded, 1850}}),
		unsettled("a refund that the list lacks", object{"status": "pending"}, "refunds_unlisted", answerPage(false)).wantError(phases.Unknown, ""),
	}
}

func servedRefundRefusals() []servedCase {
	const kind, replayed = "invalid_request_error", "Idempotent-Replayed"
	refused := func(code string, headers ...string) http.HandlerFunc {
		return answerError(400, kind, code, nil, headers...)
	}
	disputed := given(RefundRefused, "", "", 0)
	disputed.Disputed = true
	already := func(name, row string, refunds ...object) servedCase {
		return refundCase(name, "refund_refused", refused("charge_already_refunded")).thenList(row, answerPage(false, refunds...))
	}
	saved400 := func(name, row string, refunds ...object) servedCase {
		return refundCase(name, "refund_refused", refused("charge_already_refunded", replayed, "true")).thenList(row, answerPage(false, refunds...)).later()
	}
	no := func(name string, handler http.HandlerFunc) servedCase {
		return refundCase(name, "refund_refused", handler)
	}
	denied := refundCase("a refund that is forbidden", "denied", answerError(403, kind, "", nil)).wantError(phases.Transient, "stripe_403")
	denied.answers, denied.also, denied.counts = withAccount(denied.answers, answerAccount()), []string{"account/account_known"}, true
	bad := refundCase("a refund that is called wrong", "refund_400", refused("balance_insufficient")).wantError(phases.Transient, "stripe_400")
	bad.counts = true
	busy := refundCase("a refund whose key is in use", "in_use", answerError(409, kind, "idempotency_key_in_use", nil)).wantError(phases.Unknown, "")
	busy.backoff = phases.Backoff{Initial: 500 * time.Millisecond, Max: 5 * time.Second}
	saved := refundCase("a refund with a saved 500", "saved_500", answerWith(500, "", replayed, "true")).wantError(phases.LookUp, "stripe_500")
	saved.patience = time.Hour
	form := refundCase("a refund whose form belongs to another key", "form_changed", nil).
		wantRefund(Refund{Result: RefundSuspect, Reason: "stripe_form"})
	form.sentRefund = func(s *phases.Sent[RefundForm]) { s.Key += "0" }
	found := form
	found.name, found.find = form.name+", and is looked up", true
	unsent := refundCase("a refund, and nobody listens", "unsent", nil).wantError(phases.Transient, "")
	unsent.change = func(c *Config) { c.URL = "http://" + closedAddress() }
	stopped := refundCase("a refund, and our key must not be used", "paused", nil).wantError(phases.Transient, "")
	stopped.before = func(_ *testing.T, s *Stripe) { s.Refuse("the key belongs to another account") }
	keyless := refundCase("a refund, and Stripe refuses the API key", "key_refused", answerUnauthorized()).wantError(phases.Transient, "")
	keyless.answers, keyless.also = withAccount(keyless.answers, answerUnauthorized()), []string{"account/account_refused"}
	return []servedCase{
		already("a refund of what the dashboard has refunded", "refunds_done", dashboardRefund("re_9", 2350, "succeeded")).
			wantRefund(given(RefundDone, "re_9", GivenSucceeded, 2350)),
		already("a refund of what the dashboard has refunded twice in part", "refunds_done",
			dashboardRefund("re_9", 2000, "succeeded"), dashboardRefund("re_8", 350, "succeeded"), dashboardRefund("re_7", 350, "failed")).
			wantRefund(given(RefundDone, "re_9", GivenSucceeded, 2350)),
		already("a refund of what the dashboard is refunding", "refunds_open", dashboardRefund("re_9", 2350, "pending")).
			wantRefund(given(RefundOpen, "re_9", GivenPending, 2350)),
		already("a refund of what was refunded, and nothing is listed", "refunds_contradict").
			wantRefund(Refund{Result: RefundSuspect, Reason: "stripe_unexpected"}),
		already("a refund of what was refunded, and what is listed has failed", "refunds_contradict", dashboardRefund("re_9", 2350, "failed")).
			later().wantRefund(Refund{Result: RefundSuspect, Reason: "stripe_unexpected", Given: Given{"re_9", GivenFailed, 2350}}),
		saved400("a saved refusal, and the dashboard is still refunding", "refunds_open", dashboardRefund("re_9", 2350, "pending")).
			wantRefund(given(RefundOpen, "re_9", GivenPending, 2350)),
		saved400("a saved refusal, and the dashboard's refund has failed since", "refunds_failed_since", dashboardRefund("re_9", 2350, "failed")).
			wantRefund(given(RefundRefused, "re_9", GivenFailed, 2350)),
		saved400("a saved refusal, and one of the dashboard's refunds has failed since", "refunds_failed_since",
			dashboardRefund("re_9", 1850, "canceled"), dashboardRefund("re_8", 500, "succeeded")).
			wantRefund(failedBeside("re_8", 500)),
		saved400("a saved refusal, and what has failed doesn't explain it", "refunds_contradict", dashboardRefund("re_9", 500, "failed")).
			wantRefund(Refund{Result: RefundSuspect, Reason: "stripe_unexpected", Given: Given{"re_9", GivenFailed, 500}}),
		already("a refund of what our lost send has refunded", "refunds_done", refundWith(nil)).later().wantRefund(refundDone()),
		no("a refund of a disputed charge", refused("charge_disputed")).thenList("refunds_refused", answerPage(false)).wantRefund(disputed),
		no("a refund of a disputed payment", refused("refund_disputed_payment")).thenList("refunds_refused", answerPage(false)).wantRefund(disputed),
		no("a refund of a charge that can't be refunded", refused("charge_not_refundable")).
			thenList("refunds_refused", answerPage(false, dashboardRefund("re_9", 500, "succeeded"))).
			wantRefund(given(RefundRefused, "re_9", GivenSucceeded, 500)),
		no("a saved refusal, for a disputed charge", refused("charge_disputed", replayed, "true")).later().
			thenList("refunds_refused", answerPage(false)).wantRefund(disputed),
		no("a refund of a disputed charge after a lost send", refused("charge_disputed")).later().
			thenList("refunds_refused_later", answerPage(false)).wantRefund(Refund{Result: RefundSuspect, Reason: "stripe_400"}),
		no("a refund of a disputed charge after a send that refunded", refused("charge_disputed")).later().
			thenList("refunds_done", answerPage(false, refundWith(nil))).wantRefund(refundDone()),
		refundCase("a saved 400 to a refund", "refund_400_saved", refused("parameter_unknown", replayed, "true")).
			wantRefund(Refund{Result: RefundSuspect, Reason: "stripe_400"}),
		refundCase("a 400 to a later refund", "refund_400_unclear", refused("parameter_unknown")).later().wantError(phases.LookUp, "stripe_400"),
		refundCase("a 400 to a refund that shows an intent", "refund_400_unclear",
			answerError(400, kind, "payment_intent_unexpected_state", object{"payment_intent": intentWith(nil)})).wantError(phases.LookUp, "stripe_400"),
		refundCase("a 402 to a refund", "refund_402", answerError(402, "card_error", "card_declined", nil)).wantError(phases.LookUp, "stripe_unexpected"),
		refundCase("a 418 to a refund", "other_4xx", answerError(418, kind, "", nil)).wantError(phases.LookUp, "stripe_unexpected"),
		refundCase("an idempotency_error to a refund", "idempotency_error", answerError(400, "idempotency_error", "", nil)).
			wantError(phases.LookUp, "stripe_idempotency_error"),
		refundCase("a 409 to a refund", "conflict", answerError(409, kind, "", nil)).wantError(phases.Unknown, ""),
		refundCase("a 429 to a refund", "limited", answerError(429, kind, "rate_limit", nil)).wantError(phases.Transient, ""),
		refundCase("a 503 to a refund", "server_error", answerError(503, "api_error", "", nil)).wantError(phases.Unknown, ""),
		refundCase("a refund without an answer", "lost", answerCut("", hangUp)).wantError(phases.Unknown, ""),
		denied, bad, busy, saved, form, found, unsent, stopped, keyless,
	}
}

func servedRefundLists() []servedCase {
	listed := func(name, row string, list http.HandlerFunc) servedCase {
		return servedCase{name: name, refund: true, find: true, row: "refunds/" + row, answers: map[string][]http.HandlerFunc{routeRefunds: {list}}}
	}
	over := func(c servedCase) servedCase {
		c.sentRefund = func(s *phases.Sent[RefundForm]) { s.WindowOver = true }
		return c
	}
	wrong := func(name string, refund object) servedCase {
		return listed("looking up refunds, one of them "+name, "refunds_mismatch", answerPage(false, refund)).
			wantRefund(Refund{Result: RefundSuspect, Reason: "stripe_mismatch"})
	}
	denied := listed("listing refunds is forbidden", "look_denied", answerError(403, "invalid_request_error", "", nil)).wantError(phases.Unknown, "stripe_403")
	denied.answers, denied.also, denied.counts = withAccount(denied.answers, answerAccount()), []string{"account/account_known"}, true
	none := listed("looking up refunds, and there is none", "refunds_none", answerPage(false))
	none.none = true
	part := listed("looking up refunds, and there is another's of a part", "refunds_none", answerPage(false, dashboardRefund("re_9", 500, "succeeded")))
	part.none = true
	pending := answerPage(false, refundWith(object{"status": "pending"}))
	pages := listed("looking up refunds on two pages", "refunds_done", answerPage(true, dashboardRefund("re_9", 350, "succeeded")))
	pages.answers[routeRefunds] = append(pages.answers[routeRefunds], answerPage(false, dashboardRefund("re_9", 350, "succeeded"), refundWith(object{"amount": 2000})))
	return []servedCase{
		none, part, denied, pages.wantRefund(refundDone()),
		listed("looking up a refund that succeeded", "refunds_done", answerPage(false, refundWith(nil))).wantRefund(refundDone()),
		over(listed("looking up a refund that succeeded, at last", "refunds_done", answerPage(false, refundWith(nil)))).wantRefund(refundDone()),
		listed("looking up a pending refund", "refunds_open", pending).wantRefund(ownOpen()),
		over(listed("looking up a refund that is pending for ever", "refunds_open_over", pending)).
			wantRefund(Refund{Result: RefundSuspect, Reason: "window_over", Given: Given{"re_1", GivenPending, 2350}}),
		listed("looking up a refund that failed", "refunds_failed", answerPage(false, refundWith(object{"status": "failed"}))).
			wantRefund(given(RefundRefused, "re_1", GivenFailed, 2350)),
		listed("looking up a refund that failed before another one", "refunds_done",
			answerPage(false, dashboardRefund("re_9", 2350, "succeeded"), refundWith(object{"status": "failed"}))).
			wantRefund(given(RefundDone, "re_9", GivenSucceeded, 2350)),
		wrong("of another payment", refundWith(object{"payment_intent": "pi_2"})),
		wrong("in another currency", refundWith(object{"currency": "eur"})),
		wrong("of more than was paid", refundWith(object{"amount": 2351})),
		listed("looking up refunds that are more than was paid", "refunds_mismatch",
			answerPage(false, refundWith(object{"amount": 2000}), dashboardRefund("re_9", 500, "pending"))).
			wantRefund(Refund{Result: RefundSuspect, Reason: "stripe_mismatch"}),
		listed("listing refunds is limited", "look_limited", answerError(429, "invalid_request_error", "rate_limit", nil)).wantError(phases.Unknown, ""),
		listed("the payment of the refunds is gone", "look_refused", answerError(400, "invalid_request_error", "resource_missing", object{"param": "payment_intent"})).
			wantRefund(Refund{Result: RefundSuspect, Reason: "stripe_unexpected"}),
		listed("listing refunds ends with {}", "look_failed", answerWith(200, "{}")).wantError(phases.Unknown, ""),
		listed("listing refunds ends with a 500", "look_failed", answerError(500, "api_error", "", nil)).wantError(phases.Unknown, ""),
	}
}

// disputeWith returns a dispute of the payment, with changes.
func disputeWith(changes object) object {
	dispute := object{
		"id": "dp_1", "object": "dispute", "status": "needs_response", "is_charge_refundable": false, "payment_intent": "pi_1", "livemode": false,
	}
	maps.Copy(dispute, changes)
	return dispute
}

// servedDisputes returns an answer to the question for disputes for each row.
func servedDisputes() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"look_limited":  answerError(429, "invalid_request_error", "rate_limit", nil),
		"look_refused":  answerError(400, "invalid_request_error", "resource_missing", nil),
		"look_denied":   answerError(403, "invalid_request_error", "", nil),
		"look_failed":   answerPage(false, disputeWith(object{"payment_intent": "pi_2"})),
		"disputes_read": answerPage(false),
	}
}

func TestDisputesAreReadOrUnknown(t *testing.T) {
	t.Parallel()
	for row, handler := range servedDisputes() {
		t.Run(row, func(t *testing.T) {
			t.Parallel()
			answers := withAccount(map[string][]http.HandlerFunc{routeDisputes: {handler}}, answerAccount())
			client, registry := newStripeServer(t, answers).client(t, nil)
			dispute, err := client.DisputeOf(t.Context(), "pi_1")
			if (err == nil) != (row == "disputes_read") || dispute != (Dispute{}) {
				t.Errorf("got %+v, %v", dispute, err)
			}
			if rows := judgments(t, registry); !slices.Contains(rows, "disputes/"+row) {
				t.Errorf("judged by %v", rows)
			}
		})
	}
}

func TestDisputeRefusesOrDoesNot(t *testing.T) {
	t.Parallel()
	open, refuses := Dispute{Open: true}, Dispute{Open: true, Refuses: true}
	for name, c := range map[string]struct {
		disputes []object
		want     Dispute
	}{
		"none":                       {nil, Dispute{}},
		"a dispute":                  {[]object{disputeWith(nil)}, refuses},
		"a dispute that was lost":    {[]object{disputeWith(object{"status": "lost"})}, refuses},
		"a dispute that was won":     {[]object{disputeWith(object{"status": "won"})}, Dispute{}},
		"a dispute that lets refund": {[]object{disputeWith(object{"is_charge_refundable": true})}, open},
		"an inquiry":                 {[]object{disputeWith(object{"status": "warning_needs_response", "is_charge_refundable": true})}, open},
		"a closed inquiry":           {[]object{disputeWith(object{"status": "warning_closed", "is_charge_refundable": false})}, Dispute{}},
		"a dispute that was won, and another": {
			[]object{disputeWith(object{"status": "won"}), disputeWith(object{"id": "dp_2"})}, refuses,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newStripeServer(t, map[string][]http.HandlerFunc{routeDisputes: {answerPage(false, c.disputes...)}})
			client, _ := server.client(t, nil)
			got, err := client.DisputeOf(t.Context(), "pi_1")
			if err != nil {
				t.Fatal(err)
			}
			wantEqual(t, "dispute", c.want, got)
			if query := server.received(routeDisputes)[0].query; !strings.Contains(query, "payment_intent=pi_1") {
				t.Errorf("asked for %s", query)
			}
		})
	}
	server := newStripeServer(t, map[string][]http.HandlerFunc{routeDisputes: {answerPage(false, disputeWith(object{"livemode": true}))}})
	client, _ := server.client(t, nil)
	if got, err := client.DisputeOf(t.Context(), "pi_1"); err == nil {
		t.Errorf("a dispute of the other mode was believed: %+v", got)
	}
}
