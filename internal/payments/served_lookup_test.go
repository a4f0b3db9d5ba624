package payments

import (
	"net/http"
	"time"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// readCase returns a case of FindCharge that reads a known intent.
func readCase(name, row string, read http.HandlerFunc) servedCase {
	return servedCase{
		name: name, row: "read/" + row, find: true, answers: map[string][]http.HandlerFunc{routeRead: {read}},
		sent: func(s *phases.Sent[ChargeForm]) { s.Ref = "pi_1" },
	}
}

// listCase returns a case of FindCharge by the list, which holds one intent
// with the operation.
func listCase(name, row string, over bool, read http.HandlerFunc) servedCase {
	return servedCase{
		name: name, row: "read/" + row, also: []string{"list/list_one"}, find: true,
		answers: map[string][]http.HandlerFunc{routeList: {answerPage(false, intentWith(nil))}, routeRead: {read}},
		sent:    func(s *phases.Sent[ChargeForm]) { s.WindowOver = over },
	}
}

func (c servedCase) wantCharge(want Charge) servedCase {
	c.want = want
	return c
}

func (c servedCase) wantNothing() servedCase {
	c.none = true
	return c
}

func suspectCharge(reason string) Charge {
	return Charge{Status: ChargeSuspect, Reason: reason, IntentID: "pi_1", ChargeID: "ch_1"}
}

func servedReads() []servedCase {
	charged := Charge{Status: ChargeSucceeded, IntentID: "pi_1", ChargeID: "ch_1"}
	open := failedIntent(object{"last_payment_error": nil})
	canceled := failedIntent(object{"status": "canceled"})
	byCharge := expandedWith(object{"status": "canceled", "amount_received": 0},
		object{"paid": false, "failure_code": "expired_card", "failure_message": "Your card has expired."})
	limited := readCase("reading is limited", "look_limited", answerError(429, "invalid_request_error", "rate_limit", nil, "Retry-After", "3"))
	limited.backoff = phases.Backoff{Initial: 3 * time.Second, Max: 3 * time.Second}
	refused := readCase("reading is refused because of the API key", "look_failed", answerUnauthorized())
	refused.answers, refused.also = withAccount(refused.answers, answerUnauthorized()), []string{"account/account_refused"}
	denied := readCase("reading is refused because of the request", "look_denied", answerError(403, "invalid_request_error", "", nil))
	denied.answers, denied.also = withAccount(denied.answers, answerAccount()), []string{"account/account_known"}
	denied.reason, denied.counts = "stripe_403", true
	unread := func(name string, read http.HandlerFunc) servedCase { return readCase(name, "look_failed", read) }
	return []servedCase{
		limited,
		readCase("the intent is gone", "look_refused", answerError(404, "invalid_request_error", "resource_missing", nil)).
			wantCharge(Charge{Status: ChargeSuspect, Reason: "stripe_unexpected"}),
		unread("reading ends without an answer", answerCut("", hangUp)),
		refused, denied,
		unread("reading fails", answerError(500, "api_error", "", nil)),
		unread("reading returns {}", answerWith(200, "{}")),
		unread("reading returns HTML", answerWith(503, "<html>")),
		readCase("another intent than asked for", "read_mismatch", answerOK(expandedWith(object{"id": "pi_2"}, nil))).
			wantCharge(Charge{Status: ChargeSuspect, Reason: "stripe_mismatch"}),
		readCase("an intent of another ride", "read_mismatch", answerOK(expandedWith(object{"metadata": foreignMetadata()}, nil))).
			wantCharge(Charge{Status: ChargeSuspect, Reason: "stripe_mismatch"}),
		readCase("an intent of the other mode", "read_mismatch", answerOK(expandedWith(object{"livemode": true}, nil))).
			wantCharge(Charge{Status: ChargeSuspect, Reason: "stripe_mismatch"}),
		readCase("it succeeded", "read_charged", answerOK(expandedWith(nil, nil))).wantCharge(charged),
		readCase("it was refunded", "read_refunded", answerOK(expandedWith(nil, object{"refunded": true}))).wantCharge(suspectCharge("stripe_refunded")),
		readCase("it was refunded in part", "read_refunded", answerOK(expandedWith(nil, object{"amount_refunded": 1}))).wantCharge(suspectCharge("stripe_refunded")),
		readCase("it is disputed", "read_refunded", answerOK(expandedWith(nil, object{"disputed": true}))).wantCharge(suspectCharge("stripe_refunded")),
		readCase("it is processing", "read_processing", answerOK(expandedWith(object{"status": "processing", "latest_charge": nil}, nil))).
			wantCharge(Charge{Status: ChargeProcessing, IntentID: "pi_1"}),
		afterWindow(readCase("it is still processing, after the window", "read_processing_over", answerOK(expandedWith(object{"status": "processing"}, nil)))).
			wantCharge(suspectCharge("window_over")),
		listCase("it is still processing, after the window, by the list", "read_processing_over", true, answerOK(expandedWith(object{"status": "processing"}, nil))).
			wantCharge(suspectCharge("window_over")),
		afterWindow(readCase("it is processing, and failed after the window", "read_declined", answerOK(failedIntent(nil)))).wantCharge(declinedCharge()),
		listCase("it failed, inside the window", "read_open", false, answerOK(failedIntent(nil))).wantNothing(),
		listCase("it was never confirmed, inside the window", "read_unconfirmed_open", false, answerOK(open)).wantNothing(),
		listCase("it was never confirmed, after the window", "read_unconfirmed", true, answerOK(open)).wantCharge(suspectCharge("stripe_unexpected")),
		readCase("it failed without saying why", "read_unconfirmed", answerOK(open)).wantCharge(suspectCharge("stripe_unexpected")),
		withRef(listCase("it is processing, and failed afterwards", "read_declined", false, answerOK(failedIntent(nil))).wantCharge(declinedCharge())),
		listCase("it was canceled after it failed", "read_canceled", true, answerOK(canceled)).wantCharge(declinedCharge()),
		listCase("it was canceled after its charge failed", "read_canceled", true, answerOK(byCharge)).wantCharge(Charge{
			Status: ChargeDeclined, IntentID: "pi_1", ChargeID: "ch_1", DeclineKind: "card_declined",
			DeclineCode: "expired_card",
		}),
		readCase("it was canceled without an attempt", "read_unexpected", answerOK(intentWith(object{"status": "canceled", "amount_received": 0}))).
			wantCharge(suspectCharge("stripe_unexpected")),
		readCase("it was canceled after money was received", "read_unexpected",
			answerOK(failedIntent(object{"status": "canceled", "amount_received": 1}))).wantCharge(suspectCharge("stripe_unexpected")),
		readCase("it requires action", "read_unexpected", answerOK(intentWith(object{"status": "requires_action"}))).wantCharge(suspectCharge("stripe_unexpected")),
		readCase("it succeeded with a charge that isn't expanded", "read_unexpected", answerOK(intentWith(nil))).wantCharge(suspectCharge("stripe_unexpected")),
		readCase("it succeeded with a charge that isn't paid", "read_mismatch", answerOK(expandedWith(nil, object{"paid": false}))).
			wantCharge(suspectCharge("stripe_mismatch")),
		readCase("it succeeded with a charge that isn't captured", "read_mismatch", answerOK(expandedWith(nil, object{"captured": false}))).
			wantCharge(suspectCharge("stripe_mismatch")),
	}
}

// afterWindow turns a case that reads a known intent into one after the window.
func afterWindow(c servedCase) servedCase {
	c.sent = func(s *phases.Sent[ChargeForm]) { s.Ref, s.WindowOver = "pi_1", true }
	return c
}

// withRef turns a case by the list into one that reads a known intent.
func withRef(c servedCase) servedCase {
	c.also = nil
	c.sent = func(s *phases.Sent[ChargeForm]) { s.Ref = "pi_1" }
	return c
}

func servedLists() []servedCase {
	listing := func(name, row string, pages ...http.HandlerFunc) servedCase {
		return servedCase{name: name, row: "list/" + row, find: true, answers: map[string][]http.HandlerFunc{routeList: pages}}
	}
	other := intentWith(object{"id": "pi_9", "metadata": foreignMetadata()})
	limited := listing("listing is limited", "look_limited", answerError(429, "invalid_request_error", "rate_limit", nil, "Retry-After", "3"))
	limited.backoff = phases.Backoff{Initial: 3 * time.Second, Max: 3 * time.Second}
	one := listCase("one of many is ours", "read_charged", false, answerOK(expandedWith(nil, nil))).
		wantCharge(Charge{Status: ChargeSucceeded, IntentID: "pi_1", ChargeID: "ch_1"})
	one.row, one.also = "list/list_one", []string{"read/read_charged"}
	one.answers[routeList] = []http.HandlerFunc{answerPage(true, other), answerPage(false, intentWith(nil))}
	late := listing("time runs out between two pages", "look_failed", answerPage(true, other), answerNever)
	late.change = patientTimeout
	denied := listing("listing is refused because of the request", "look_denied", answerError(403, "invalid_request_error", "", nil))
	denied.answers, denied.also = withAccount(denied.answers, answerAccount()), []string{"account/account_known"}
	denied.reason, denied.counts = "stripe_403", true
	const kind = "invalid_request_error"
	deleted := answerOK(object{"id": "cus_1", "object": "customer", "deleted": true})
	unlisted := func(name, row, asked string, customer http.HandlerFunc, pages ...http.HandlerFunc) servedCase {
		c := listing(name, row, append([]http.HandlerFunc{answerError(400, kind, "resource_missing", object{"param": "customer"})}, pages...)...)
		c.answers[routeCustomer], c.also = []http.HandlerFunc{customer}, []string{"customer/" + asked}
		return c
	}
	return []servedCase{
		limited, one, late, denied,
		listing("listing is refused for the customer", "look_refused", answerError(404, "invalid_request_error", "resource_missing", nil)).
			wantCharge(Charge{Status: ChargeSuspect, Reason: "stripe_unexpected"}),
		unlisted("Stripe doesn't know the customer", "list_no_customer", "payer_missing", answerError(404, kind, "resource_missing", nil)).wantNothing(),
		unlisted("the customer's list fails, though Stripe knows the customer", "look_failed", "payer_there", answerOK(customerWith(nil))),
		unlisted("nobody knows whether there is such a customer", "look_failed", "payer_unclear", answerError(500, "api_error", "", nil)),
		unlisted("the customer was deleted, and paid nothing", "list_none", "payer_left", deleted, answerPage(false, other)).wantNothing(),
		unlisted("the customer was deleted, and everybody's list fails", "look_failed", "payer_left", deleted, answerError(500, "api_error", "", nil)),
		listing("Stripe doesn't know the customer any more", "look_failed",
			answerPage(true, other), answerError(400, "invalid_request_error", "resource_missing", object{"param": "customer"})),
		listing("the list is empty", "list_none", answerPage(false)).wantNothing(),
		listing("the list holds only others", "list_none", answerPage(true, other), answerPage(false)).wantNothing(),
		listing("the list holds two of ours", "list_more", answerPage(true, intentWith(nil)), answerPage(false, intentWith(object{"id": "pi_2"}))).
			wantCharge(Charge{Status: ChargeSuspect, Reason: "stripe_more_than_one"}),
		listing("the second page fails", "look_failed", answerPage(true, other), answerError(500, "api_error", "", nil)),
		listing("the second page is cut", "look_failed", answerPage(true, other), answerCut("", hangUp)),
		listing("more is promised after an empty page", "look_failed", answerPage(true)),
		listing("the second page is the first again", "look_failed", answerPage(true, other)),
		listing("the list is {}", "look_failed", answerWith(200, "{}")),
		listing("the list doesn't say whether there is more", "look_failed", answerWith(200, `{"object":"list","data":[]}`)),
		listing("the list has no data", "look_failed", answerWith(200, `{"object":"list","has_more":false}`)),
		listing("the list holds null", "look_failed", answerWith(200, `{"object":"list","has_more":false,"data":[null]}`)),
		listing("the list is another object", "look_failed", answerWith(200, `{"object":"customer","has_more":false,"data":[]}`)),
	}
}

func servedCancels() []servedCase {
	canceling := func(name, row string, cancel http.HandlerFunc) servedCase {
		c := listCase(name, row, true, answerOK(failedIntent(nil)))
		c.row, c.also = "cancel/"+row, []string{"list/list_one", "read/read_last"}
		c.answers[routeCancel] = []http.HandlerFunc{cancel}
		return c
	}
	limited := canceling("canceling is limited", "look_limited", answerError(429, "invalid_request_error", "rate_limit", nil))
	last := canceling("it failed, after the window", "canceled", answerOK(failedIntent(object{"status": "canceled"}))).wantCharge(declinedCharge())
	last.row, last.also = "read/read_last", []string{"list/list_one", "cancel/canceled"}
	denied := canceling("canceling is refused because of the request", "look_denied", answerError(403, "invalid_request_error", "", nil))
	denied.answers, denied.also = withAccount(denied.answers, answerAccount()), append(denied.also, "account/account_known")
	denied.reason, denied.counts = "stripe_403", true
	refused := canceling("canceling is refused", "cancel_refused", answerError(400, "invalid_request_error", "payment_intent_unexpected_state", nil))
	refused.reason, refused.counts = "stripe_unexpected", true
	return []servedCase{
		limited, last, denied, refused,
		canceling("canceling drops the error", "canceled", answerOK(intentWith(object{"status": "canceled", "amount_received": 0}))).wantCharge(declinedCharge()),
		canceling("canceling returns an intent that holds money", "not_canceled", answerOK(failedIntent(object{"status": "canceled", "amount_received": 1}))).
			wantCharge(suspectCharge("stripe_unexpected")),
		canceling("canceling fails", "look_failed", answerError(500, "api_error", "", nil)),
		canceling("canceling ends without an answer", "look_failed", answerCut("", hangUp)),
		canceling("canceling returns an intent that isn't canceled", "not_canceled", answerOK(intentWith(nil))).wantCharge(suspectCharge("stripe_unexpected")),
		canceling("canceling returns another intent", "not_canceled", answerOK(failedIntent(object{"id": "pi_2", "status": "canceled"}))).
			wantCharge(Charge{Status: ChargeSuspect, Reason: "stripe_unexpected"}),
	}
}
