package payments

import (
	"net/http"
	"time"

	"github.com/rocketrides/rocketrides/internal/phases"
)

func servedCreated() []servedCase {
	created := func(name, row string, changes object, want Charge) servedCase {
		return servedCase{name: name, row: "charge/" + row, answers: chargeOnly(answerOK(intentWith(changes))), want: want}
	}
	mismatch := func(what string, changes object) servedCase {
		return created("a 200 about another "+what, "mismatch", changes, Charge{Status: ChargeSuspect, Reason: "stripe_mismatch"})
	}
	unexpected := func(name string, changes object) servedCase {
		return created(name, "unexpected", changes,
			Charge{Status: ChargeSuspect, Reason: "stripe_unexpected", IntentID: "pi_1", ChargeID: "ch_1"})
	}
	replayed := func(name, row string, read http.HandlerFunc, want Charge) servedCase {
		return servedCase{
			name: name, row: "charge/replayed", also: []string{"read/" + row}, want: want,
			answers: chargeThenRead(answerOK(intentWith(nil), "Idempotent-Replayed", "true"), read),
		}
	}
	charged := Charge{Status: ChargeSucceeded, IntentID: "pi_1", ChargeID: "ch_1"}
	return []servedCase{
		created("a 200 that succeeded", "charged", nil, charged),
		created("a 200 that is processing", "processing", object{"status": "processing", "amount_received": 0, "latest_charge": nil},
			Charge{Status: ChargeProcessing, IntentID: "pi_1"}),
		mismatch("amount", object{"amount": 2351}),
		mismatch("currency", object{"currency": "eur"}),
		mismatch("customer", object{"customer": "cus_2"}),
		mismatch("operation", object{"metadata": object{"ride_id": "ride_1", "account_id": "acct_1", "operation": "0123"}}),
		mismatch("ride", object{"metadata": object{"ride_id": "ride_2", "account_id": "acct_1", "operation": testTerms().Operation}}),
		mismatch("account", object{"metadata": object{"ride_id": "ride_1", "account_id": "acct_2", "operation": testTerms().Operation}}),
		mismatch("object altogether", object{"id": "pi_2", "metadata": foreignMetadata()}),
		mismatch("object without metadata", object{"metadata": nil}),
		mismatch("mode's object", object{"livemode": true}),
		created("a 200 that succeeded with a paid, expanded charge", "charged", expandedWith(nil, nil), charged),
		created("a 200 that succeeded with a charge that isn't paid", "mismatch", expandedWith(nil, object{"paid": false}), suspectCharge("stripe_mismatch")),
		created("a 200 that succeeded with a charge that isn't captured", "mismatch", expandedWith(nil, object{"captured": false}), suspectCharge("stripe_mismatch")),
		created("a 200 that succeeded with a charge that failed", "mismatch", expandedWith(nil, object{"status": "failed"}), suspectCharge("stripe_mismatch")),
		created("a 200 that succeeded with a charge that was refunded", "unexpected", expandedWith(nil, object{"refunded": true}), suspectCharge("stripe_unexpected")),
		unexpected("a 200 that requires action", object{"status": "requires_action"}),
		unexpected("a 200 that requires a payment method", object{"status": "requires_payment_method"}),
		unexpected("a 200 that requires capture", object{"status": "requires_capture"}),
		unexpected("a 200 that is canceled", object{"status": "canceled"}),
		unexpected("a 200 in an unknown state", object{"status": "requires_luck"}),
		unexpected("a 200 that succeeded with less money", object{"amount_received": 1000}),
		created("a 200 that succeeded without a charge", "unexpected", object{"latest_charge": nil},
			Charge{Status: ChargeSuspect, Reason: "stripe_unexpected", IntentID: "pi_1"}),
		replayed("a replayed 200 that still stands", "read_charged", answerOK(expandedWith(nil, nil)), charged),
		replayed("a replayed 200 that was refunded since", "read_refunded", answerOK(expandedWith(nil, object{"refunded": true, "amount_refunded": 2350})),
			Charge{Status: ChargeSuspect, Reason: "stripe_refunded", IntentID: "pi_1", ChargeID: "ch_1"}),
		replayed("a replayed 200 that failed since", "read_declined", answerOK(failedIntent(nil)), declinedCharge()),
		{
			name: "a replayed 200 whose intent cannot be read is unknown, not transient", row: "charge/replayed",
			also: []string{"read/look_failed", "account/account_refused"}, class: phases.Unknown,
			answers: withAccount(chargeThenRead(answerOK(intentWith(nil), "Idempotent-Replayed", "true"), answerUnauthorized()), answerUnauthorized()),
		},
	}
}

func declinedCharge() Charge {
	return Charge{
		Status: ChargeDeclined, IntentID: "pi_1", ChargeID: "ch_1", DeclineKind: "card_declined",
		DeclineCode: "insufficient_funds",
	}
}

func servedDeclines() []servedCase {
	declined := func(name string, more object, change func(*Charge)) servedCase {
		want := declinedCharge()
		change(&want)
		return servedCase{name: name, row: "charge/declined", answers: chargeOnly(answerDeclined(more)), want: want}
	}
	soft := func(code string) servedCase {
		return declined("a 402 "+code, object{"decline_code": code}, func(c *Charge) { c.DeclineCode, c.RetryWithNewKey = code, true })
	}
	return []servedCase{
		declined("a 402 card_declined", nil, func(*Charge) {}),
		declined("a 402 authentication_required", object{"code": "authentication_required", "decline_code": "authentication_required"},
			func(c *Charge) { c.DeclineKind, c.DeclineCode = "authentication_required", "authentication_required" }),
		declined("a 402 authentication_required by its code alone", object{"code": "authentication_required", "decline_code": nil},
			func(c *Charge) { c.DeclineKind, c.DeclineCode = "authentication_required", "authentication_required" }),
		declined("a 402 authentication_required by its decline code alone", object{"decline_code": "authentication_required"},
			func(c *Charge) { c.DeclineKind, c.DeclineCode = "authentication_required", "authentication_required" }),
		soft("try_again_later"), soft("processing_error"), soft("issuer_not_available"),
		declined("a 402 with a soft code instead of a decline code", object{"code": "processing_error", "decline_code": nil},
			func(c *Charge) { c.DeclineCode, c.RetryWithNewKey = "processing_error", true }),
		declined("a 402 expired_card", object{"code": "expired_card", "decline_code": nil}, func(c *Charge) { c.DeclineCode = "expired_card" }),
		declined("a 402 with a message that isn't text", object{"message": "{\n\"secret\": 1}"}, func(*Charge) {}),
		declined("a 402 without an intent", object{"payment_intent": nil}, func(c *Charge) { c.IntentID, c.ChargeID = "", "" }),
		{
			name: "a 402 about another ride's intent", row: "charge/declined_read", also: []string{"read/read_mismatch"},
			answers: chargeThenRead(answerDeclined(object{"payment_intent": failedIntent(object{"id": "pi_2", "metadata": foreignMetadata()})}),
				answerOK(failedIntent(object{"id": "pi_2", "metadata": foreignMetadata()}))),
			want: Charge{Status: ChargeSuspect, Reason: "stripe_mismatch"},
		},
		{
			name: "a 402 whose intent succeeded", row: "charge/declined_read", also: []string{"read/read_charged"},
			answers: chargeThenRead(answerDeclined(object{"payment_intent": intentWith(nil)}), answerOK(expandedWith(nil, nil))),
			want:    Charge{Status: ChargeSucceeded, IntentID: "pi_1", ChargeID: "ch_1"},
		},
		{
			name: "a replayed 402 whose intent still lacks a payment method", row: "charge/declined_read",
			also:    []string{"read/read_declined"},
			answers: chargeThenRead(answerDeclined(nil, "Idempotent-Replayed", "true"), answerOK(failedIntent(nil))), want: declinedCharge(),
		},
		{
			name: "a replayed 402 whose intent has forgotten its error", row: "charge/declined_read",
			also: []string{"read/read_declined"}, want: declinedCharge(),
			answers: chargeThenRead(answerDeclined(nil, "Idempotent-Replayed", "true"), answerOK(failedIntent(object{"last_payment_error": nil}))),
		},
		{
			name: "a replayed 402 whose intent succeeded since", row: "charge/declined_read", also: []string{"read/read_charged"},
			answers: chargeThenRead(answerDeclined(nil, "Idempotent-Replayed", "true"), answerOK(expandedWith(nil, nil))),
			want:    Charge{Status: ChargeSucceeded, IntentID: "pi_1", ChargeID: "ch_1"},
		},
		{
			name: "a replayed 402 without an intent", row: "charge/declined_unclear", class: phases.LookUp, reason: "stripe_unexpected",
			answers: chargeOnly(answerDeclined(object{"payment_intent": nil}, "Idempotent-Replayed", "true")),
		},
		{
			name: "a 402 without an intent to a later send", row: "charge/declined_unclear", class: phases.LookUp, reason: "stripe_unexpected",
			answers: chargeOnly(answerDeclined(object{"payment_intent": nil})), sent: laterSend,
		},
		{
			name: "a 402 with an intent to a later send", row: "charge/declined", answers: chargeOnly(answerDeclined(nil)), sent: laterSend,
			want: declinedCharge(),
		},
		{
			name: "a 402 about an intent of the other mode", row: "charge/declined_read", also: []string{"read/read_mismatch"},
			answers: chargeThenRead(answerDeclined(object{"payment_intent": failedIntent(object{"livemode": true})}), answerOK(failedIntent(object{"livemode": true}))),
			want:    Charge{Status: ChargeSuspect, Reason: "stripe_mismatch"},
		},
		{
			name: "a 402 that isn't a card error", row: "charge/declined_unclear", class: phases.LookUp, reason: "stripe_unexpected",
			answers: chargeOnly(answerError(402, "invalid_request_error", "", nil)),
		},
	}
}

func servedRefusals() []servedCase {
	asked := func(name, row string, handler, account http.HandlerFunc, rows ...string) servedCase {
		c := servedCase{name: name, row: "charge/" + row, also: rows, answers: chargeOnly(handler), class: phases.Transient}
		c.answers[routeAccount] = []http.HandlerFunc{account}
		if row == "denied" {
			c.reason, c.counts = "stripe_403", true
		}
		return c
	}
	refused := func(name string, handler http.HandlerFunc) servedCase {
		return asked(name+" because of the API key", "key_refused", handler, answerUnauthorized(), "account/account_refused")
	}
	denied := func(name string, handler http.HandlerFunc) servedCase {
		return asked(name+" because of the request", "denied", handler, answerAccount(), "account/account_known")
	}
	lookUp := func(name, row, reason string, handler http.HandlerFunc, sent func(*phases.Sent[ChargeForm])) servedCase {
		return servedCase{name: name, row: "charge/" + row, answers: chargeOnly(handler), sent: sent, class: phases.LookUp, reason: reason}
	}
	const kind = "invalid_request_error"
	reused := answerError(400, "idempotency_error", "", nil)
	cases := []servedCase{
		refused("a 401", answerError(401, kind, "", nil)),
		refused("a 401 api_key_expired", answerError(401, kind, "api_key_expired", nil)),
		refused("a 403", answerError(403, kind, "", nil)),
		refused("a 400 api_key_expired", answerError(400, kind, "api_key_expired", nil)),
		denied("a 401", answerError(401, kind, "", nil)),
		denied("a 403", answerError(403, kind, "", nil)),
		asked("a 401, and reading the account fails", "key_refused", answerUnauthorized(), answerError(500, "api_error", "", nil), "account/account_unclear"),
		asked("a 401, and reading the account is cut", "key_refused", answerUnauthorized(), answerCut("", hangUp), "account/account_unclear"),
		asked("a 401, and the account is {}", "key_refused", answerUnauthorized(), answerWith(200, "{}"), "account/account_unclear"),
		asked("a 401, and another object is read", "key_refused", answerUnauthorized(), answerOK(customerWith(nil)), "account/account_unclear"),
		lookUp("a 401 that names a charge", "other_4xx", "stripe_unexpected", answerError(401, kind, "", object{"charge": "ch_1"}), nil),
		lookUp("a 403 with an intent", "other_4xx", "stripe_unexpected", answerError(403, kind, "", object{"payment_intent": failedIntent(nil)}), nil),
		lookUp("a saved 403", "other_4xx", "stripe_unexpected", answerError(403, kind, "", nil, "Idempotent-Replayed", "true"), nil),
		lookUp("a 400 idempotency_error to the first send", "idempotency_error", "stripe_idempotency_error", reused, nil),
		lookUp("a 400 idempotency_error to a later send", "idempotency_error", "stripe_idempotency_error", reused, laterSend),
	}
	for _, status := range []int{405, 406, 408, 410, 413, 415, 418, 422, 451, 499} {
		cases = append(cases, lookUp(http.StatusText(status)+" is another 4xx", "other_4xx", "stripe_unexpected", answerError(status, kind, "", nil), nil))
	}
	return cases
}

func servedBusy() []servedCase {
	short := phases.Backoff{Initial: 500 * time.Millisecond, Max: 5 * time.Second}
	inUse := func(name string, status int, kind, code string) servedCase {
		return servedCase{
			name: name, row: "charge/in_use", class: phases.Unknown, backoff: short,
			answers: chargeOnly(answerError(status, kind, code, nil, "Stripe-Should-Retry", "true")),
		}
	}
	limited := func(name string, wait time.Duration, headers ...string) servedCase {
		return servedCase{
			name: name, row: "charge/limited", class: phases.Transient, backoff: phases.Backoff{Initial: wait, Max: wait},
			answers: chargeOnly(answerError(429, "invalid_request_error", "rate_limit", nil, headers...)),
		}
	}
	unknown := func(name, row string, handler http.HandlerFunc) servedCase {
		return servedCase{name: name, row: "charge/" + row, answers: chargeOnly(handler), class: phases.Unknown}
	}
	saved := func(name, body string) servedCase {
		return servedCase{
			name: name, row: "charge/saved_500", answers: chargeOnly(answerWith(500, body, "Idempotent-Replayed", "true")),
			class: phases.LookUp, reason: "stripe_500", patience: time.Hour,
		}
	}
	waiting := unknown("a 503 that asks for 9 seconds", "server_error",
		answerError(503, "api_error", "", nil, "Retry-After", "9"))
	waiting.backoff = phases.Backoff{Initial: 9 * time.Second, Max: 9 * time.Second}
	broken := encodeObject(object{"error": object{"type": "api_error", "message": "oh"}})
	return []servedCase{
		inUse("a 409 idempotency_key_in_use", 409, "invalid_request_error", "idempotency_key_in_use"),
		inUse("a 409 idempotency_key_in_use of another type", 409, "idempotency_error", "idempotency_key_in_use"),
		inUse("a 409 lock_timeout", 409, "invalid_request_error", "lock_timeout"),
		inUse("a 429 lock_timeout", 429, "invalid_request_error", "lock_timeout"),
		unknown("a 409 of another kind", "conflict", answerError(409, "invalid_request_error", "", nil)),
		unknown("a 429 with an intent", "conflict", answerError(429, "invalid_request_error", "rate_limit", object{"payment_intent": failedIntent(nil)})),
		unknown("a saved 429", "conflict", answerError(429, "invalid_request_error", "rate_limit", nil, "Idempotent-Replayed", "true")),
		unknown("a 424", "conflict", answerError(424, "api_error", "", nil)),
		limited("a 429", 0),
		limited("a 429 that asks for 7 seconds", 7*time.Second, "Retry-After", "7"),
		limited("a 429 that asks for 6 hours", time.Minute, "Retry-After", "21600"),
		limited("a 429 that asks to wait until a date in the past", 0, "Retry-After", "Sun, 06 Nov 1994 08:49:37 GMT"),
		limited("a 429 that asks to wait until a date far in the future", time.Minute, "Retry-After", "Fri, 31 Dec 2077 23:59:59 GMT"),
		limited("a 429 with an invalid Retry-After", 0, "Retry-After", "-5"),
		unknown("a 500", "server_error", answerWith(500, broken)),
		unknown("a 500 that asks for a retry", "server_error", answerWith(500, broken, "Stripe-Should-Retry", "true")),
		unknown("a 500 that says it isn't replayed", "server_error", answerWith(500, broken, "Idempotent-Replayed", "false")),
		unknown("a 502", "server_error", answerWith(502, broken)),
		unknown("a 503", "server_error", answerWith(503, broken)),
		unknown("a replayed 503", "server_error", answerWith(503, broken, "Idempotent-Replayed", "true")),
		unknown("a 504", "server_error", answerWith(504, broken)),
		unknown("a 599", "server_error", answerWith(599, broken)),
		waiting,
		saved("a replayed 500", broken),
		saved("a replayed 500 without a readable body", "<html>"),
	}
}
