package payments

import (
	"maps"
	"net/http"
	"slices"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// wrongRequest is Stripe's error about a mistake in our request.
func wrongRequest(more object, headers ...string) http.HandlerFunc {
	changes := object{"param": "metadata[x]"}
	maps.Copy(changes, more)
	return answerError(400, "invalid_request_error", "parameter_unknown", changes, headers...)
}

func servedBadRequests() []servedCase {
	const kind = "invalid_request_error"
	saved := []string{"Idempotent-Replayed", "true"}
	lookUp := func(name string, handler http.HandlerFunc, sent func(*phases.Sent[ChargeForm])) servedCase {
		return servedCase{
			name: name, row: "charge/bad_request_unclear", answers: chargeOnly(handler), sent: sent,
			class: phases.LookUp, reason: "stripe_400",
		}
	}
	parked := func(name string, handler http.HandlerFunc, sent func(*phases.Sent[ChargeForm])) servedCase {
		return servedCase{
			name: name, row: "charge/bad_request_saved", answers: chargeOnly(handler), sent: sent,
			want: Charge{Status: ChargeSuspect, Reason: "stripe_400"},
		}
	}
	cases := []servedCase{
		lookUp("a 400 to a later send", wrongRequest(nil), laterSend),
		lookUp("a 400 with a card's code to a later send", answerError(400, kind, "expired_card", nil), laterSend),
		lookUp("a 404 to a later send", answerError(404, kind, "resource_missing", nil), laterSend),
		lookUp("a 400 that names a charge", wrongRequest(object{"charge": "ch_1"}), nil),
		lookUp("a 400 of another type", answerError(400, "api_error", "parameter_unknown", nil), nil),
		lookUp("a card's 400 of another type", answerError(400, "card_error", "expired_card", nil), nil),
		parked("a saved 400", wrongRequest(nil, saved...), nil),
		parked("a saved 400 to a later send", wrongRequest(nil, saved...), laterSend),
		parked("a saved 400 with a card's code", answerError(400, kind, "expired_card", nil, saved...), nil),
		parked("a saved 400 that names a charge", wrongRequest(object{"charge": "ch_1"}, saved...), nil),
	}
	for _, code := range cardCodes() {
		cases = append(cases, servedCase{
			name: "a 400 " + code, row: "charge/bad_card", answers: chargeOnly(answerError(400, kind, code, object{"message": "Your card is odd."})),
			want: Charge{Status: ChargeDeclined, DeclineKind: "card_declined", DeclineCode: code},
		})
	}
	return append(cases, servedStops()...)
}

// servedStops are the 400s with a payment intent in them, which is read and
// canceled.
func servedStops() []servedCase {
	open := func(changes object) object {
		intent := intentWith(object{"status": "requires_confirmation", "amount_received": 0, "latest_charge": nil})
		maps.Copy(intent, changes)
		return intent
	}
	canceled := open(object{"status": "canceled"})
	stop := func(name string, read object, cancel http.HandlerFunc, want Charge, rows ...string) servedCase {
		c := servedCase{
			name: name, row: rows[0], also: append(rows[1:], "charge/bad_request_intent"), want: want,
			answers: chargeThenRead(wrongRequest(object{"payment_intent": open(nil)}), answerOK(read)),
		}
		if cancel != nil {
			c.answers[routeCancel] = []http.HandlerFunc{cancel}
		}
		return c
	}
	again := func(c servedCase, name string, sent func(*phases.Sent[ChargeForm]), headers ...string) servedCase {
		c.name, c.sent, c.answers = name, sent, maps.Clone(c.answers)
		c.answers[routeCreate] = []http.HandlerFunc{wrongRequest(object{"payment_intent": open(nil)}, headers...)}
		return c
	}
	failed := Charge{Status: ChargeDeclined, DeclineKind: "payment_failed", IntentID: "pi_1"}
	parked := Charge{Status: ChargeSuspect, Reason: "stripe_400", IntentID: "pi_1"}
	unexpected := Charge{Status: ChargeSuspect, Reason: "stripe_unexpected", IntentID: "pi_1"}
	first := stop("a 400 with an intent that can be canceled", open(nil), answerOK(canceled), failed, "cancel/canceled", "read/read_stop")
	cases := []servedCase{
		first,
		again(first, "a saved 400 with an intent", laterSend, "Idempotent-Replayed", "true"),
		stop("a 400 with an intent that was canceled", canceled, nil, failed, "read/read_stopped"),
		stop("a 400 with an intent that succeeded", expandedWith(nil, nil), nil,
			Charge{Status: ChargeSucceeded, IntentID: "pi_1", ChargeID: "ch_1"}, "read/read_charged"),
		stop("a 400 with an intent that was refunded", expandedWith(nil, object{"refunded": true}), nil, suspectCharge("stripe_refunded"), "read/read_refunded"),
		stop("a 400 with an intent that is processing", open(object{"status": "processing"}), nil,
			Charge{Status: ChargeProcessing, IntentID: "pi_1"}, "read/read_processing"),
		stop("a 400 with an intent that holds money", open(object{"amount_received": 1}), nil, unexpected, "read/read_unexpected"),
		stop("a 400 with an intent that was canceled with money in it", open(object{"status": "canceled", "amount_received": 1}), nil, unexpected, "read/read_unexpected"),
		stop("a 400 with an intent that authorized money", open(object{"status": "requires_capture"}), nil, unexpected, "read/read_unexpected"),
		stop("a 400 with another ride's intent", open(object{"metadata": foreignMetadata()}), nil,
			Charge{Status: ChargeSuspect, Reason: "stripe_mismatch"}, "read/read_mismatch"),
		stop("a 400 with an intent whose cancellation shows money", open(nil), answerOK(open(object{"status": "canceled", "amount_received": 1})), unexpected,
			"cancel/not_canceled", "read/read_stop"),
	}
	refused := stop("a 400 with an intent that can't be canceled", open(nil), wrongRequest(nil), Charge{}, "cancel/cancel_refused", "read/read_stop")
	refused.reason, refused.counts = "stripe_unexpected", true
	cases = append(cases, refused)
	for _, status := range []string{"requires_payment_method", "requires_action"} {
		cases = append(cases, stop("a 400 with an intent that "+status, open(object{"status": status}), answerOK(canceled), failed,
			"cancel/canceled", "read/read_stop"))
	}
	later := stop("a 400 with an intent, to a later send", open(nil), answerOK(canceled), parked, "cancel/canceled_later", "read/read_stop")
	laterCanceled := stop("a 400 with an intent that was canceled, to a later send", canceled, nil, parked, "read/read_stopped_later")
	return append(cases, again(later, later.name, laterSend), again(laterCanceled, laterCanceled.name, laterSend))
}

// servedPayers are the first 400s without an intent in them, after which the
// customer and the payment method are read.
func servedPayers() []servedCase {
	missing := answerError(404, "invalid_request_error", "resource_missing", object{"param": "id"})
	ask := func(name, row string, want Charge, also []string, customer http.HandlerFunc, method http.HandlerFunc) servedCase {
		c := servedCase{name: name, row: row, also: append([]string{"charge/bad_request"}, also...), answers: chargeOnly(wrongRequest(nil)), want: want}
		c.answers[routeCustomer] = []http.HandlerFunc{customer}
		if method != nil {
			c.answers[routeMethod] = []http.HandlerFunc{method}
		}
		if want.Status == "" {
			c.class, c.reason, c.counts = phases.Transient, "stripe_400", true
		}
		return c
	}
	gone := func(name, row string, customer, method http.HandlerFunc) servedCase {
		want := Charge{Status: ChargeDeclined, DeclineKind: "payment_failed"}
		if method == nil {
			return ask(name, "customer/"+row, want, []string{"charge/payer_gone"}, customer, nil)
		}
		return ask(name, "payment_method/"+row, want, []string{"charge/payer_gone", "customer/payer_there"}, customer, method)
	}
	unclear := func(name string, customer, method http.HandlerFunc) servedCase {
		if method == nil {
			return ask(name, "customer/payer_unclear", Charge{}, []string{"charge/bad_request_again"}, customer, nil)
		}
		return ask(name, "payment_method/payer_unclear", Charge{}, []string{"charge/bad_request_again", "customer/payer_there"}, customer, method)
	}
	there, its := answerOK(customerWith(nil)), answerOK(methodWith(nil))
	again := ask("a 400 though the customer and its card are there", "charge/bad_request_again", Charge{},
		[]string{"customer/payer_there", "payment_method/payer_there"}, there, its)
	cases := []servedCase{
		again,
		gone("a 400 about a customer that doesn't exist", "payer_missing", missing, nil),
		gone("a 400 about a customer that was deleted", "payer_left", answerOK(object{"id": "cus_1", "object": "customer", "deleted": true}), nil),
		gone("a 400 about a payment method that doesn't exist", "payer_missing", there, missing),
		gone("a 400 about a payment method that was detached", "payer_left", there, answerOK(methodWith(object{"customer": nil}))),
		gone("a 400 about another customer's payment method", "payer_left", there, answerOK(methodWith(object{"customer": "cus_2"}))),
		unclear("a 400, and reading the customer fails", answerError(500, "api_error", "", nil), nil),
		unclear("a 400, and reading the customer is cut", answerCut("", hangUp), nil),
		unclear("a 400, and the customer isn't at this address", answerError(404, "invalid_request_error", "", nil), nil),
		unclear("a 400, and another customer is read", answerOK(customerWith(object{"id": "cus_2"})), nil),
		unclear("a 400, and the other mode's customer is read", answerOK(customerWith(object{"livemode": true})), nil),
		unclear("a 400, and the customer is {}", answerWith(200, "{}"), nil),
		unclear("a 400, and reading the payment method fails", there, answerError(503, "api_error", "", nil)),
		unclear("a 400, and another payment method is read", there, answerOK(methodWith(object{"id": "pm_2", "customer": nil}))),
		unclear("a 400, and the other mode's payment method is read", there, answerOK(methodWith(object{"livemode": true}))),
	}
	token := ask("a 400 about a test card, which belongs to nobody", "charge/bad_request_again", Charge{}, []string{"customer/payer_there"}, there, nil)
	token.sent = func(s *phases.Sent[ChargeForm]) {
		terms := testTerms()
		terms.PaymentMethod = "pm_card_visa"
		s.Form = NewChargeForm(terms)
	}
	return append(cases, token,
		refusedAs("a 400 because of the mode", "livemode_mismatch", again),
		refusedAs("a 400 without a code", "", again),
		refusedAs("a 400 that might be about the API key, which Stripe accepts", "testmode_charges_only", again),
	)
}

// refusedAs returns the case c with another code in the answer to the charge.
func refusedAs(name, code string, c servedCase) servedCase {
	c.name, c.answers = name, maps.Clone(c.answers)
	c.answers[routeCreate] = []http.HandlerFunc{answerError(400, "invalid_request_error", code, nil)}
	if slices.Contains(keyCodes(), code) {
		c.answers, c.also = withAccount(c.answers, answerAccount()), append(c.also, "account/account_known")
	}
	return c
}
