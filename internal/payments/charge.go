package payments

import (
	"net/url"
	"strconv"
)

// ChargeForm is the body of the request that charges a ride, as
// application/x-www-form-urlencoded, exactly as it is sent. It is frozen in the
// database before the first send and stays as it is whatever a deploy or an
// edited account changes: Stripe answers the same idempotency key with other
// parameters by an error, at a moment when the first send may have charged the
// card. Newly made by NewChargeForm.
type ChargeForm string

// ChargeTerms is what one ride's charge is made of. Nothing in it may differ
// between two requests with the same idempotency key, so nothing in it comes
// from a clock, a sequence or the headers of a request.
type ChargeTerms struct {
	Amount        int64  // in the currency's smallest unit
	Currency      string // ISO 4217, lower case
	Customer      string // cus_…
	PaymentMethod string // pm_…
	Description   string // shown on Stripe's dashboard and receipts
	RideID        string
	AccountID     string
	Operation     string // the idempotency key that the form is sent under
}

// Amount returns how much is charged, in the currency's smallest unit; 0 where
// the form holds no such number.
func (f ChargeForm) Amount() int64 {
	amount, err := strconv.ParseInt(f.value("amount"), 10, 64)
	if err != nil {
		return 0
	}
	return amount
}

// Currency returns the currency (ISO 4217, lower case).
func (f ChargeForm) Currency() string { return f.value("currency") }

// Customer returns Stripe's id of the customer who is charged.
func (f ChargeForm) Customer() string { return f.value("customer") }

// PaymentMethod returns Stripe's id of the payment method that is charged.
func (f ChargeForm) PaymentMethod() string { return f.value("payment_method") }

// Description returns what is charged for, in words.
func (f ChargeForm) Description() string { return f.value("description") }

// RideID returns the id of the ride that is charged for.
func (f ChargeForm) RideID() string { return f.value("metadata[ride_id]") }

// AccountID returns the id of the account whose ride it is.
func (f ChargeForm) AccountID() string { return f.value("metadata[account_id]") }

// Operation returns the idempotency key that the form is sent under. It is in
// the metadata too, so that what the form made at Stripe can be found again.
func (f ChargeForm) Operation() string { return f.value("metadata[operation]") }

func (f ChargeForm) value(name string) string {
	values, err := url.ParseQuery(string(f))
	if err != nil {
		return ""
	}
	return values.Get(name)
}

// asked tells whether intent is what this form asks for. What Stripe sends back
// is believed only then: an answer about another object (a proxy that mixes up
// connections, a wrong id) must never mark a ride as paid. Ids that are no
// words are none of Stripe's: the ride's row could not hold them (NUL,
// megabytes), and would never be done.
func (f ChargeForm) asked(intent paymentIntent) bool {
	return intent.id != "" &&
		stripeWord(intent.id) == intent.id &&
		stripeWord(intent.chargeID) == intent.chargeID &&
		intent.amount == f.Amount() &&
		intent.currency == f.Currency() &&
		intent.customer == f.Customer() &&
		intent.rideID == f.RideID() &&
		intent.accountID == f.AccountID() &&
		intent.operation == f.Operation()
}

// ChargeStatus says what Stripe decided about a charge.
type ChargeStatus string

const (
	// ChargeSucceeded means that the money was taken.
	ChargeSucceeded ChargeStatus = "charged"
	// ChargeDeclined means that no money was taken, and none will be.
	ChargeDeclined ChargeStatus = "declined"
	// ChargeProcessing means that Stripe hasn't decided yet.
	ChargeProcessing ChargeStatus = "processing"
	// ChargeSuspect means that only a person can tell: the key is parked.
	ChargeSuspect ChargeStatus = "suspect"
)

// The kinds of a declined charge, which are also the codes of the problems that
// clients get.
const (
	DeclineCard           = "card_declined"
	DeclineAuthentication = "authentication_required"
)

// The reasons for which a charge is parked.
const (
	parkMismatch         = "stripe_mismatch"          // the answer is about something that wasn't asked for
	parkUnexpected       = "stripe_unexpected"        // an answer or a state that this flow cannot have
	parkRefunded         = "stripe_refunded"          // charged, and refunded or disputed since
	parkMoreThanOne      = "stripe_more_than_one"     // several payment intents carry one operation
	parkRefusedRequest   = "stripe_400"               // Stripe calls our request wrong
	parkIdempotencyError = "stripe_idempotency_error" // the key was used with other parameters before
	parkSaved500         = "stripe_500"               // Stripe's saved answer is that it doesn't know
	parkForm             = "stripe_form"              // the frozen form cannot be sent as the same bytes any more
)

// Charge is what Stripe said of one ride's payment.
type Charge struct {
	Status ChargeStatus
	// ChargeID (ch_…) and IntentID (pi_…) name what belongs to this ride at
	// Stripe; empty where there is no such thing, or where it belongs to
	// something else.
	ChargeID, IntentID string
	// DeclineKind is DeclineCard or DeclineAuthentication, for ChargeDeclined.
	DeclineKind string
	// DeclineCode is Stripe's decline_code or, lacking that, its error code:
	// insufficient_funds, expired_card …. See
	// https://docs.stripe.com/declines/codes.
	DeclineCode string
	// Message is what Stripe tells the card's holder about the decline.
	Message string
	// RetryWithNewKey tells that the same card may work in a while. This charge
	// stays declined; another try is another request with a key of its own.
	RetryWithNewKey bool
	// Reason is what the key is parked for, for ChargeSuspect: one short word.
	Reason string
	// Detail is one line about Stripe's answer, for the audit trail and for
	// whoever has to decide. It holds no secret and nothing about the card.
	Detail string
	// RequestID is Stripe's id of the request that showed all this (req_…).
	RequestID string
}
