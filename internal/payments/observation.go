package payments

import (
	"net/http"
	"slices"
	"time"
)

// An observation is what came of one request to Stripe, and what was known
// before it: everything that a result is judged by.
type observation struct {
	call  string
	fault fault
	err   error // describes the fault, without secrets

	// The answer, if there is no fault.
	status     int
	body       answerBody
	replayed   bool          // it is a saved answer to an earlier send
	retryAfter time.Duration // 0: the answer doesn't ask to wait
	requestID  string        // Stripe's id of the request (req_…)
	apiError   apiError      // for bodyError
	intent     paymentIntent // for bodyObject, and if an error holds one
	ours       bool          // the intent, or the refund, is what the form asked for
	differs    []term        // in what the intent is not ours, for people
	found      []string      // for callList: the ids of the intents that carry the operation
	refunds    refundList    // for callRefund the new one, for callRefunds all
	paid       int64         // for callRefund and callRefunds: what a refund gives back
	key        keyState      // what Stripe says about the API key
	// refusedAgain means that this request had Stripe refuse the API key once
	// more, after another one had shown that the key works.
	refusedAgain bool
	gone         bool // for callCustomer and callMethod: it is there, and can't be charged

	priorKnowledge
}

// priorKnowledge is what was known before the request.
type priorKnowledge struct {
	first      bool     // no send can have happened before
	settled    bool     // Stripe has answered the charge or refund, and its answer named what is read
	windowOver bool     // the charge will never be sent again
	earlier    apiError // why the card was declined, or the refund refused, from an earlier answer
	// stop means that Stripe refused the charge and named this intent, which
	// must not succeed later, or refused the refund. With alone, no other send
	// can have charged or refunded.
	stop, alone bool
	saved       bool       // the refund was refused by a saved answer, which tells how it was then
	payer       payerState // what Stripe says about the customer and the payment method
}

// A fault is why there is no answer, or only a part of one.
type fault int

const (
	faultNone   fault = iota
	faultForm         // nothing was sent, because the frozen form can't be read, is another key's, or names nobody
	faultPaused       // nothing was sent, because the API key must not be used
	faultUnsent       // no byte was sent
	faultLost         // bytes may have been sent
)

// An answerBody is what an answer's body turned out to be.
type answerBody int

const (
	bodyOther   answerBody = iota // not Stripe's: empty, HTML, broken
	bodyForeign                   // an object of another kind
	bodyObject                    // what was asked for: the payment intent, or the whole list
	bodyError                     // Stripe's error object
)

// The types of Stripe's errors that are looked at, and one code. See
// https://docs.stripe.com/api/errors.
const (
	cardKind        = "card_error"
	invalidKind     = "invalid_request_error"
	idempotencyKind = "idempotency_error" // the key was used with other parameters
	codeMissing     = "resource_missing"
)

// hasObject reports whether the answer is what was asked for.
func (o *observation) hasObject() bool {
	return o.fault == faultNone && o.status == http.StatusOK && o.body == bodyObject
}

// demand makes an answer 200 count as unreadable unless it holds an object of the
// wanted kind, with an id. stripe-go reads {} as an object of no kind.
func (o *observation) demand(wanted, kind, id string) {
	switch {
	case !o.hasObject() || kind == wanted && id != "":
	case kind == "" || kind == wanted:
		o.body = bodyOther
	default:
		o.body = bodyForeign
	}
}

// hasError reports whether the answer is an error in Stripe's own form.
func (o *observation) hasError() bool {
	return o.fault == faultNone && o.status >= 400 && o.body == bodyError
}

func (o *observation) unreadable() bool {
	return o.fault == faultNone && !o.hasObject() && !o.hasError() && !o.saved500()
}

// saved500 reports whether the answer is a 500 that Stripe has saved. It needs
// no body, because the header says that the answer is a replay.
func (o *observation) saved500() bool {
	return o.fault == faultNone && o.status == http.StatusInternalServerError && o.replayed
}

// refused reports whether Stripe answered with an error of one of the statuses.
func (o *observation) refused(statuses ...int) bool {
	return o.hasError() && slices.Contains(statuses, o.status)
}

func (o *observation) refusedBelow500() bool { return o.hasError() && o.status < 500 }

// begun reports whether an error shows that Stripe had begun to charge: it is a
// saved answer, or it names a payment intent or a charge.
func (o *observation) begun() bool {
	return o.replayed || o.intent.id != "" || o.apiError.chargeID != ""
}

// keyDoubted reports whether the answer may mean that Stripe refuses our API
// key, for all requests. Then nothing was done.
func (o *observation) keyDoubted() bool {
	return !o.begun() && (o.refused(401, 403) ||
		o.refused(400) && o.apiError.kind != idempotencyKind && slices.Contains(keyCodes(), o.apiError.code))
}

// denied reports whether Stripe refuses this request, and not the API key.
func (o *observation) denied() bool {
	return o.keyDoubted() && (o.key == keyAccepted && o.refused(401, 403) || o.key == keyRefused && o.refusedAgain)
}

// badRequest reports whether Stripe calls this request wrong. For a customer
// that doesn't exist Stripe answers 404 or 400. See notBegun for when this
// means that nothing was charged.
func (o *observation) badRequest() bool {
	return o.refused(400, 404) && o.apiError.kind != idempotencyKind && (!o.keyDoubted() || o.key == keyAccepted)
}

// notBegun reports whether the card was certainly not charged: Stripe calls this
// request wrong and had not begun, and no other send can have charged.
func (o *observation) notBegun() bool {
	return o.badRequest() && o.apiError.kind == invalidKind && o.first && !o.begun()
}

// missing reports whether Stripe doesn't know the object that was asked about.
func (o *observation) missing() bool {
	return o.refused(400, 404) && o.apiError.kind == invalidKind && o.apiError.code == codeMissing
}

// noCustomer reports whether Stripe refuses a list because it doesn't know the
// customer.
func (o *observation) noCustomer() bool {
	return o.call == callList && o.missing() && o.apiError.param == "customer"
}

// inUse reports whether another send under the same key is running right now.
// It goes by the code, because Stripe has given these errors different types.
func (o *observation) inUse() bool {
	return o.refused(409, 429) && slices.Contains([]string{"idempotency_key_in_use", "lock_timeout"}, o.apiError.code)
}

// keyCodes are the codes of a 400 that may be about the API key, not the request.
// See https://docs.stripe.com/error-codes.
func keyCodes() []string {
	return []string{"api_key_expired", "platform_api_key_expired", "secret_key_required", "testmode_charges_only"}
}

// failure returns why the card was declined: from this answer, from the intent
// in it, or from an earlier answer.
func (o *observation) failure() apiError {
	for _, why := range []apiError{o.apiError, o.intent.failure} {
		if why.code != "" || why.declineCode != "" {
			return why
		}
	}
	return o.earlier
}

// intentID returns the id of the intent that the answer names. If it is a list,
// that must have found one.
func (o *observation) intentID() string {
	if o.call == callList {
		return o.found[0]
	}
	return o.intent.id
}
