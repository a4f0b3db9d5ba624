package payments

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// A verdict is what a result means.
type verdict int

const (
	// isUnknown: it may have been done. What nobody thought of is unknown.
	isUnknown verdict = iota
	// isTransient: certainly not done by this send.
	isTransient
	// isLookUp: it may have been done, and sending again could not tell.
	isLookUp
	// isNothing: everything was seen, and nothing is conclusive.
	isNothing
	isCharged
	isDeclined
	isProcessing
	// isSuspect: only a person can tell.
	isSuspect
	// isRead: the answer is good for the intent's id alone, whose state has to
	// be read.
	isRead
	// isCancel: the intent failed, and must be kept from succeeding later.
	isCancel
)

// A resultRow is one line of a result table. Exactly one row of a table matches
// any observation of its call.
type resultRow struct {
	name   string // for metrics and tests
	when   func(o observation) bool
	then   verdict
	reason string // for isSuspect and isLookUp: what the key is parked for
	// backoff overrides the engine's; nil doesn't.
	backoff func(o observation) phases.Backoff
	// patient tells that "nothing found" proves nothing before Saved500After.
	patient bool
}

// rowFor returns the row of a table that matches o. The tests prove that there
// is exactly one.
func rowFor(table []resultRow, o observation) resultRow {
	for _, row := range table {
		if row.when(o) {
			return row
		}
	}
	return resultRow{name: "unclassified", then: isUnknown}
}

// report returns what the row makes of o: a Charge, or the error that the
// engine acts on.
func (r resultRow) report(o observation, patience time.Duration) (Charge, error) {
	failed := &phases.CallError{Class: phases.Unknown, Err: o.failureText(), Reason: r.reason}
	if r.backoff != nil {
		failed.Backoff = r.backoff(o)
	}
	switch r.then {
	case isCharged:
		return o.charge(ChargeSucceeded), nil
	case isDeclined:
		return o.declined(), nil
	case isProcessing:
		return o.charge(ChargeProcessing), nil
	case isSuspect:
		charge := o.charge(ChargeSuspect)
		charge.Reason = r.reason
		return charge, nil
	case isNothing:
		return Charge{}, fmt.Errorf("%s: %w", o.text(), phases.ErrNothingFound)
	case isTransient:
		failed.Class = phases.Transient
	case isLookUp:
		failed.Class = phases.LookUp
		if r.patient {
			failed.Patience = patience
		}
	case isUnknown, isRead, isCancel:
		// What still needs another request is unknown without it.
	}
	return Charge{}, failed
}

// sendRows judges what came of charging: POST /v1/payment_intents.
func sendRows() []resultRow {
	return slices.Concat(wireRows(), createdRows(), declineRows(), refusalRows(), busyRows())
}

// wireRows are the sends without an answer of Stripe's.
func wireRows() []resultRow {
	return []resultRow{
		{name: "form_changed", when: faulty(faultForm), then: isLookUp, reason: parkForm},
		{name: "paused", when: faulty(faultPaused), then: isTransient},
		{name: "unsent", when: faulty(faultUnsent), then: isTransient},
		// Lost, reset, cut, timed out: the charge may exist, and the same key
		// finds out.
		{name: "lost", when: faulty(faultLost), then: isUnknown},
		// HTML, a broken or foreign body, a 200 with {}, a redirect: no matter
		// which status.
		{name: "unreadable", when: observation.unreadable, then: isUnknown},
	}
}

// createdRows are the answers 200 with a payment intent.
func createdRows() []resultRow {
	fresh := func(o observation) bool { return o.object() && !o.replayed }
	return []resultRow{
		// A saved answer shows the state of back then; refunded, disputed or
		// canceled since looks the same.
		{name: "replayed", then: isRead, when: func(o observation) bool { return o.object() && o.replayed }},
		{name: "mismatch", then: isSuspect, reason: parkMismatch, when: func(o observation) bool { return fresh(o) && !o.ours }},
		{name: "charged", then: isCharged, when: func(o observation) bool { return fresh(o) && o.state() == statePaid }},
		{name: "processing", then: isProcessing, when: func(o observation) bool { return fresh(o) && o.state() == stateProcessing }},
		// Off-session, whatever needs the rider is a 402. So this is an answer
		// that this request cannot have.
		{name: "unexpected", then: isSuspect, reason: parkUnexpected, when: func(o observation) bool {
			return fresh(o) && o.ours && o.state() != statePaid && o.state() != stateProcessing
		}},
	}
}

// declineRows are the answers 402.
func declineRows() []resultRow {
	plain := func(o observation) bool {
		return o.problem.kind == "card_error" && !o.replayed &&
			(o.intent.id == "" || o.ours && o.intent.status == "requires_payment_method")
	}
	return []resultRow{
		{name: "declined", then: isDeclined, when: func(o observation) bool { return o.refused(402) && plain(o) }},
		// Replayed, about another state or another ride: what the intent is now
		// decides.
		{name: "declined_read", then: isRead, when: func(o observation) bool {
			return o.refused(402) && !plain(o) && o.intent.id != ""
		}},
		{name: "declined_unclear", then: isLookUp, reason: parkUnexpected, when: func(o observation) bool {
			return o.refused(402) && !plain(o) && o.intent.id == ""
		}},
	}
}

// refusalRows are the answers that call the request itself wrong.
func refusalRows() []resultRow {
	alone := func(o observation) bool { return o.first && !o.replayed } // no other send can have charged
	return []resultRow{
		{name: "key_refused", when: observation.keyRefused, then: isTransient},
		// An earlier send used the key with other parameters, and may have
		// charged.
		{name: "idempotency_error", then: isLookUp, reason: parkIdempotencyError, when: func(o observation) bool {
			return o.refused(400, 404) && o.problem.kind == idempotencyKind
		}},
		{name: "bad_request_later", then: isLookUp, reason: parkRefusedRequest, when: func(o observation) bool {
			return o.badRequest() && !alone(o)
		}},
		{name: "bad_card", then: isDeclined, when: func(o observation) bool {
			return o.badRequest() && alone(o) && slices.Contains(cardCodes(), o.problem.code)
		}},
		{name: "bad_request", then: isSuspect, reason: parkRefusedRequest, when: func(o observation) bool {
			return o.badRequest() && alone(o) && !slices.Contains(cardCodes(), o.problem.code)
		}},
		{name: "other_4xx", then: isLookUp, reason: parkUnexpected, when: func(o observation) bool {
			return o.refusedBelow500() && !o.refused(400, 401, 402, 403, 404, 409, 424, 429)
		}},
	}
}

// busyRows are the answers that ask for another try, and Stripe's own failures.
func busyRows() []resultRow {
	return []resultRow{
		// Another send under this key is running right now.
		{name: "in_use", then: isUnknown, when: observation.inUse, backoff: inUseBackoff},
		{name: "conflict", then: isUnknown, when: func(o observation) bool { return o.refused(409, 424) && !o.inUse() }},
		// The limiter stands before the idempotency layer.
		{name: "limited", then: isTransient, backoff: askedBackoff, when: func(o observation) bool { return o.refused(429) && !o.inUse() }},
		// The saved answer is that Stripe doesn't know, for as long as the key
		// lives; the outcome may still change.
		{name: "saved_500", then: isLookUp, reason: parkSaved500, patient: true, when: observation.saved500},
		{name: "server_error", then: isUnknown, backoff: askedBackoff, when: func(o observation) bool {
			return o.problemBody() && o.status >= 500 && !o.saved500()
		}},
	}
}

// lookRows are the reads, lists and cancels that show nothing. None is
// transient: something may have been charged, which a look that fails doesn't
// change.
func lookRows() []resultRow {
	limited := func(o observation) bool { return o.refused(429) }
	wrong := func(o observation) bool { return o.badRequest() }
	return []resultRow{
		{name: "look_limited", when: limited, then: isUnknown, backoff: askedBackoff},
		// An intent or a customer that isn't there any more will not come back
		// by looking again.
		{name: "look_refused", when: wrong, then: isSuspect, reason: parkUnexpected},
		{name: "look_failed", then: isUnknown, when: func(o observation) bool { return !o.object() && !limited(o) && !wrong(o) }},
	}
}

// readRows judges a payment intent as it is now: GET /v1/payment_intents/{id},
// with its latest charge.
func readRows() []resultRow {
	is := func(state intentState, more func(o observation) bool) func(o observation) bool {
		return func(o observation) bool { return o.object() && o.state() == state && more(o) }
	}
	always := func(observation) bool { return true }
	settled := func(o observation) bool { return o.settled }
	final := func(o observation) bool { return !o.settled && o.windowOver }
	open := func(o observation) bool { return !o.settled && !o.windowOver }
	return append(lookRows(), []resultRow{
		{name: "read_mismatch", when: is(stateForeign, always), then: isSuspect, reason: parkMismatch},
		{name: "read_charged", when: is(statePaid, always), then: isCharged},
		{name: "read_refunded", when: is(stateRefunded, always), then: isSuspect, reason: parkRefunded},
		{name: "read_processing", when: is(stateProcessing, always), then: isProcessing},
		// Stripe has answered the one charge there is, and no send confirms it
		// again.
		{name: "read_declined", when: is(stateFailed, settled), then: isDeclined},
		// Found after a send whose answer nobody knows: inside the window
		// Stripe may still roll it forward.
		{name: "read_open", when: is(stateFailed, open), then: isNothing},
		{name: "read_last", when: is(stateFailed, final), then: isCancel},
		{name: "read_unconfirmed_open", when: is(stateUnconfirmed, open), then: isNothing},
		{name: "read_unconfirmed", then: isSuspect, reason: parkUnexpected, when: is(stateUnconfirmed, func(o observation) bool { return !open(o) })},
		// Canceled after it failed, most likely by us, in an attempt that died
		// before it could say so.
		{name: "read_canceled", when: is(stateCanceled, always), then: isDeclined},
		{name: "read_unexpected", when: is(stateOther, always), then: isSuspect, reason: parkUnexpected},
	}...)
}

// listRows judges the whole list of a customer's payment intents: GET
// /v1/payment_intents.
func listRows() []resultRow {
	return append(lookRows(), []resultRow{
		{name: "list_none", then: isNothing, when: func(o observation) bool { return o.object() && len(o.found) == 0 }},
		{name: "list_one", then: isRead, when: func(o observation) bool { return o.object() && len(o.found) == 1 }},
		{name: "list_more", then: isSuspect, reason: parkMoreThanOne, when: func(o observation) bool { return o.object() && len(o.found) > 1 }},
	}...)
}

// cancelRows judges POST /v1/payment_intents/{id}/cancel.
func cancelRows() []resultRow {
	canceled := func(o observation) bool { return o.ours && o.intent.status == "canceled" }
	return append(lookRows(), []resultRow{
		{name: "canceled", then: isDeclined, when: func(o observation) bool { return o.object() && canceled(o) }},
		{name: "not_canceled", then: isSuspect, reason: parkUnexpected, when: func(o observation) bool { return o.object() && !canceled(o) }},
	}...)
}

// idempotencyKind is the type of the error that Stripe answers when a key is
// used with other parameters.
const idempotencyKind = "idempotency_error"

// faulty returns the condition of one fault.
func faulty(fault stripeFault) func(o observation) bool {
	return func(o observation) bool { return o.fault == fault }
}

// object tells that the answer is what was asked for.
func (o observation) object() bool {
	return o.fault == faultNone && o.status == http.StatusOK && o.body == bodyObject
}

// problemBody tells that the answer is an error in Stripe's own form.
func (o observation) problemBody() bool {
	return o.fault == faultNone && o.status >= 400 && o.body == bodyError
}

func (o observation) unreadable() bool {
	return o.fault == faultNone && !o.object() && !o.problemBody() && !o.saved500()
}

// saved500 needs no body: that the answer is replayed is in its header, and
// says it all.
func (o observation) saved500() bool {
	return o.fault == faultNone && o.status == http.StatusInternalServerError && o.replayed
}

func (o observation) refused(statuses ...int) bool {
	return o.problemBody() && slices.Contains(statuses, o.status)
}

func (o observation) refusedBelow500() bool { return o.problemBody() && o.status < 500 }

// keyRefused tells that Stripe refuses our API key, as such or in this mode.
// Nothing was done, and no other request would fare better.
func (o observation) keyRefused() bool {
	return o.refused(401, 403) ||
		o.refused(400) && o.problem.kind != idempotencyKind && slices.Contains(modeCodes(), o.problem.code)
}

// badRequest tells that Stripe calls this request wrong. Stripe answers 404 or
// 400 for a customer that it lacks.
func (o observation) badRequest() bool {
	return o.refused(400, 404) && o.problem.kind != idempotencyKind && !o.keyRefused()
}

// inUse matches on the code, because Stripe has given these errors different
// types.
func (o observation) inUse() bool {
	return o.refused(409, 429) && slices.Contains([]string{"idempotency_key_in_use", "lock_timeout"}, o.problem.code)
}

// modeCodes say that the API key, not the request, is wrong. See
// https://docs.stripe.com/error-codes.
func modeCodes() []string {
	return []string{"api_key_expired", "livemode_mismatch", "platform_api_key_expired", "secret_key_required", "testmode_charges_only"}
}

// cardCodes are the codes of a 400 that the card's holder can mend with another
// card. Every other 400 is our own mistake, which a decline would hide.
func cardCodes() []string {
	return []string{
		"card_decline_rate_limit_exceeded", "card_declined", "expired_card", "incorrect_cvc", "incorrect_number",
		"incorrect_zip", "invalid_card_type", "invalid_cvc", "invalid_expiry_month", "invalid_expiry_year",
		"invalid_number", "payment_method_customer_decline", "payment_method_provider_decline",
	}
}

// inUseBackoff is short, because the other send is about to end.
func inUseBackoff(observation) phases.Backoff {
	return phases.Backoff{Initial: 500 * time.Millisecond, Max: 5 * time.Second}
}

// maxRetryAfter bounds what an answer can ask for: a wrong or hostile
// Retry-After of hours would outlast the patience of every rider.
const maxRetryAfter = time.Minute

// askedBackoff waits as long as the answer asks for.
func askedBackoff(o observation) phases.Backoff {
	wait := min(o.retryAfter, maxRetryAfter)
	return phases.Backoff{Initial: wait, Max: wait}
}

// An intentState is what a payment intent and its latest charge amount to.
type intentState int

const (
	stateOther intentState = iota
	stateForeign
	statePaid
	stateRefunded
	stateProcessing
	stateFailed
	stateUnconfirmed
	stateCanceled
)

// state sums the intent up. A charge that isn't expanded counts as paid only in
// the answer to the charge itself, where there was no time to refund it.
func (o observation) state() intentState {
	intent := o.intent
	failed := o.failure() != stripeProblem{}
	switch {
	case !o.ours:
		return stateForeign
	case intent.status == "succeeded" && (intent.refunded || intent.disputed):
		return stateRefunded
	case intent.status == "succeeded" && intent.received == intent.amount && intent.chargeID != "" && (intent.chargePaid || o.call == callCharge):
		return statePaid
	case intent.status == "processing":
		return stateProcessing
	case intent.status == "requires_payment_method" && failed:
		return stateFailed
	case intent.status == "requires_payment_method":
		return stateUnconfirmed
	case intent.status == "canceled" && failed && intent.received == 0:
		return stateCanceled
	default:
		return stateOther
	}
}
