package payments

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The requests that are made of Stripe.
const (
	callCharge = "charge" // POST /v1/payment_intents
	callRead   = "read"   // GET  /v1/payment_intents/{id}
	callList   = "list"   // GET  /v1/payment_intents
	callCancel = "cancel" // POST /v1/payment_intents/{id}/cancel
)

// An observation is what came of one request to Stripe, and what was known
// before: all that a result is judged by.
type observation struct {
	call  string
	fault stripeFault
	err   error // what the fault was, without secrets

	// The answer, where there is no fault.
	status     int
	body       answerBody
	replayed   bool          // it is a saved answer to an earlier send
	retryAfter time.Duration // 0: it doesn't ask for one
	requestID  string
	problem    stripeProblem // for bodyError
	intent     paymentIntent // for bodyObject, and where an error carries one
	ours       bool          // the intent is what the form asked for
	found      []string      // for callList: the intents that carry the operation

	priorKnowledge
}

// priorKnowledge is what was known before the request.
type priorKnowledge struct {
	first      bool          // no send can have happened before
	settled    bool          // Stripe has answered the charge; its answer said which intent to read
	windowOver bool          // the charge will never be sent again
	earlier    stripeProblem // why the card was declined, from an earlier answer
}

// A stripeFault is why there is no answer, or not a whole one.
type stripeFault int

const (
	faultNone   stripeFault = iota
	faultForm               // the frozen form would have been sent as other bytes, so it wasn't
	faultPaused             // nothing was sent, because Stripe refuses our API key
	faultUnsent             // no byte was sent
	faultLost               // bytes may have been sent
)

// An answerBody is what an answer's body turned out to be.
type answerBody int

const (
	bodyOther  answerBody = iota // nothing of Stripe's: empty, HTML, broken, another object
	bodyObject                   // the payment intent, or the whole list, that was asked for
	bodyError                    // Stripe's error object
)

// A stripeProblem is Stripe's error object, as in
// https://docs.stripe.com/api/errors.
type stripeProblem struct {
	kind, code, declineCode, param, message string
}

// A paymentIntent is what is looked at in a payment intent and its latest
// charge.
type paymentIntent struct {
	id, status, currency, customer string
	rideID, accountID, operation   string
	amount, received               int64
	chargeID                       string
	// The rest is known only where the charge is expanded.
	chargePaid, disputed     bool
	refunded, refundedInFull bool
	failure                  stripeProblem // the last payment error, or the charge's failure
}

// about returns o as an answer about the intent id: one about another intent
// isn't ours.
func (o observation) about(id string) observation {
	o.ours = o.ours && o.intent.id == id
	return o
}

// charge returns what is known of the charge. An object that isn't ours is
// described, but never named as the ride's: its id could end up in the ride's
// row.
func (o observation) charge(status ChargeStatus) Charge {
	charge := Charge{Status: status, Detail: o.text(), RequestID: stripeWord(o.requestID)}
	if o.ours {
		charge.IntentID, charge.ChargeID = o.intent.id, o.intent.chargeID
	}
	return charge
}

// softCodes are the declines after which the same card may work in a while.
// See https://docs.stripe.com/declines/codes.
func softCodes() []string {
	return []string{"try_again_later", "processing_error", "issuer_not_available"}
}

func (o observation) declined() Charge {
	why := o.failure()
	charge := o.charge(ChargeDeclined)
	charge.DeclineKind = DeclineCard
	if why.code == DeclineAuthentication || why.declineCode == DeclineAuthentication {
		charge.DeclineKind = DeclineAuthentication
	}
	charge.DeclineCode = stripeWord(why.declineCode)
	if why.declineCode == "" {
		charge.DeclineCode = stripeWord(why.code)
	}
	charge.Message = stripeSentence(why.message, "The card was declined.")
	charge.RetryWithNewKey = slices.Contains(softCodes(), why.declineCode) || slices.Contains(softCodes(), why.code)
	return charge
}

// failure returns why the card was declined: from this answer, from the intent
// in it, or from an earlier answer.
func (o observation) failure() stripeProblem {
	for _, why := range []stripeProblem{o.problem, o.intent.failure} {
		if why.code != "" || why.declineCode != "" {
			return why
		}
	}
	return o.earlier
}

// failureText returns what happened as an error, for logs and for the key's
// row.
func (o observation) failureText() error {
	if o.fault != faultNone {
		return fmt.Errorf("asking Stripe (%s): %w", o.call, o.err)
	}
	return errors.New(o.text())
}

// text describes an answer in one line. It quotes nothing of it but words and
// numbers, so it holds no secret, no JSON and nothing about the card.
func (o observation) text() string {
	parts := []string{fmt.Sprintf("Stripe (%s) answered %d", o.call, o.status)}
	add := func(what, value string) {
		if value != "" {
			parts = append(parts, what+" "+stripeWord(value))
		}
	}
	add("type", o.problem.kind)
	add("code", o.problem.code)
	add("parameter", o.problem.param)
	if o.intent.id != "" {
		add("intent", o.intent.id)
		add("status", o.intent.status)
		parts = append(parts, fmt.Sprintf("amount %d %s", o.intent.amount, stripeWord(o.intent.currency)))
		add("operation", o.intent.operation)
	}
	for _, id := range o.found {
		add("found", id)
	}
	add("request", o.requestID)
	return strings.Join(parts, ", ")
}

// stripeWord returns text where it is a single word of the kind that Stripe's
// codes, ids and parameters are. Anything longer or stranger may be a piece of
// a document, or a secret.
func stripeWord(text string) string {
	const longest = 100
	odd := func(r rune) bool {
		return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("_-.[]", r)
	}
	if len(text) > longest || strings.ContainsFunc(text, odd) || holdsSecret(text) {
		return "(unreadable)"
	}
	return text
}

// holdsSecret tells whether text shows an API key or the client secret of an
// intent. Whatever stands between us and Stripe may send back what it was sent,
// in any place.
func holdsSecret(text string) bool {
	within := func(part string) bool { return strings.Contains(text, part) }
	return slices.ContainsFunc(keyPrefixes(), within) || within("_secret_")
}

// stripeSentence returns text where it can be shown to people, else instead.
func stripeSentence(text, instead string) string {
	const longest = 300
	odd := func(r rune) bool { return !unicode.IsPrint(r) }
	if text == "" || len(text) > longest || !utf8.ValidString(text) || strings.ContainsFunc(text, odd) || holdsSecret(text) {
		return instead
	}
	return text
}
