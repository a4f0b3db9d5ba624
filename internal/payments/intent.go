package payments

import (
	"context"
	"net/http"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
	stripe "github.com/stripe/stripe-go/v76"
)

const intentsPath = "/v1/payment_intents"

// A paymentIntent is what is looked at in a payment intent and its latest
// charge.
type paymentIntent struct {
	id, status, currency, customer string
	rideID, accountID, operation   string
	amount, received               int64
	live                           bool // it moves real money
	chargeID                       string
	expanded                       bool // the answer holds the whole charge
	// The rest is known only if the charge is expanded.
	chargePaid, disputed     bool
	refunded, refundedInFull bool
	failure                  apiError // the last payment error, or the charge's failure
}

// An apiError is Stripe's error object, as in
// https://docs.stripe.com/api/errors.
type apiError struct {
	kind, code, declineCode, param, chargeID string
}

// read asks for a payment intent with its latest charge.
func (s *Stripe) read(ctx context.Context, id string, form ChargeForm) *observation {
	path := stripe.FormatURLPath(intentsPath+"/%s", id)
	return s.sendForIntent(ctx, request{call: callRead, method: http.MethodGet, path: path, form: "expand[]=latest_charge"}, form, id)
}

// cancel makes sure that a payment intent never succeeds. An intent is canceled
// once, however often that is asked for, so each attempt has an idempotency key
// of its own: under the key of an earlier one Stripe would repeat that one's
// answer for a day, such as a 500, and the intent would stay open.
func (s *Stripe) cancel(ctx context.Context, id string, form ChargeForm) *observation {
	path := stripe.FormatURLPath(intentsPath+"/%s/cancel", id)
	key := "cancel-" + uuid.NewString()
	return s.sendForIntent(ctx, request{callCancel, http.MethodPost, path, key, "cancellation_reason=abandoned"}, form, id)
}

// sendForIntent makes a request whose answer is a payment intent. The intent is
// ours if it is what form asked for, in the mode of the API key, and, unless id
// is empty, has that id.
func (s *Stripe) sendForIntent(ctx context.Context, r request, form ChargeForm, id string) *observation {
	answer := new(intentAnswer)
	o := s.send(ctx, r, answer)
	s.observeIntent(o, answer, form, id)
	return o
}

// observeIntent adds to o what is in an answer that should be a payment intent.
// It is no part of sendForIntent, because what it needs of the stack would be
// held by each of the thousands who may wait for their answers.
func (s *Stripe) observeIntent(o *observation, answer *intentAnswer, form ChargeForm, id string) {
	o.demand("payment_intent", answer.Object, answer.ID)
	if o.hasObject() {
		o.intent = answer.read()
	}
	o.ours = form.matches(o.intent) && o.intent.live == s.Live() && (id == "" || o.intent.id == id)
	if !o.ours && o.intent.id != "" {
		o.differs = form.differences(o.intent, id, s.Live())
	}
}

// An intentAnswer is what is looked at in an answer that is a payment intent.
type intentAnswer struct {
	ID               string                     `json:"id"`
	Object           string                     `json:"object"`
	Status           stripe.PaymentIntentStatus `json:"status"`
	Amount           int64                      `json:"amount"`
	AmountReceived   int64                      `json:"amount_received"`
	Currency         stripe.Currency            `json:"currency"`
	Livemode         bool                       `json:"livemode"`
	Customer         *stripe.Customer           `json:"customer"`
	LatestCharge     *stripe.Charge             `json:"latest_charge"`
	LastPaymentError *stripe.Error              `json:"last_payment_error"`
	Metadata         struct {
		RideID    string `json:"ride_id"`
		AccountID string `json:"account_id"`
		Operation string `json:"operation"`
	} `json:"metadata"`
}

// decode reads what stripe-go's own type would, in a sixth of the time. Only
// names must be spelled exactly.
func (a *intentAnswer) decode(body []byte) error {
	return json.Unmarshal(body, a, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
}

func (a *intentAnswer) read() paymentIntent {
	intent := readIntent(&stripe.PaymentIntent{
		ID: a.ID, Status: a.Status, Amount: a.Amount, AmountReceived: a.AmountReceived, Currency: a.Currency, Livemode: a.Livemode,
		Customer: a.Customer, LatestCharge: a.LatestCharge, LastPaymentError: a.LastPaymentError,
	})
	intent.rideID, intent.accountID, intent.operation = a.Metadata.RideID, a.Metadata.AccountID, a.Metadata.Operation
	return intent
}

func readIntent(pi *stripe.PaymentIntent) paymentIntent {
	intent := paymentIntent{
		id:        pi.ID,
		status:    string(pi.Status),
		amount:    pi.Amount,
		received:  pi.AmountReceived,
		currency:  string(pi.Currency),
		live:      pi.Livemode,
		rideID:    pi.Metadata["ride_id"],
		accountID: pi.Metadata["account_id"],
		operation: pi.Metadata["operation"],
		failure:   readError(pi.LastPaymentError),
	}
	if pi.Customer != nil {
		intent.customer = pi.Customer.ID
	}
	if charge := pi.LatestCharge; charge != nil {
		intent.chargeID = charge.ID
		intent.expanded = charge.Object != ""
		intent.chargePaid = charge.Paid && charge.Captured && charge.Status == stripe.ChargeStatusSucceeded
		intent.refunded = charge.Refunded || charge.AmountRefunded > 0
		intent.refundedInFull = charge.Refunded
		intent.disputed = charge.Disputed
		if intent.failure == (apiError{}) {
			intent.failure = apiError{code: charge.FailureCode}
		}
	}
	return intent
}

func readError(e *stripe.Error) apiError {
	if e == nil {
		return apiError{}
	}
	return apiError{kind: string(e.Type), code: string(e.Code), declineCode: string(e.DeclineCode), param: e.Param, chargeID: e.ChargeID}
}

// stoppable reports whether the intent, which Stripe made for a charge that it
// then refused, has taken no money and can be kept from ever taking any, or has
// been.
func (o *observation) stoppable() bool {
	return o.stop && o.hasObject() && o.ours && (o.intent.canBeConfirmed() || o.intent.isClosed())
}

// canBeConfirmed reports whether somebody with access to Stripe could still
// make the intent take money.
func (i paymentIntent) canBeConfirmed() bool {
	return i.received == 0 && slices.Contains([]string{"requires_payment_method", "requires_confirmation", "requires_action"}, i.status)
}

// An intentState is what a payment intent and its latest charge amount to.
type intentState int

const (
	stateOther intentState = iota
	stateMismatch
	statePaid
	stateRefunded
	stateProcessing
	stateFailed
	stateUnconfirmed
	stateCanceled
)

// contradictsItself reports whether the intent succeeded by a charge that
// wasn't paid.
func (i paymentIntent) contradictsItself() bool {
	return i.status == "succeeded" && i.expanded && !i.chargePaid
}

// state sums the intent up. A charge that isn't expanded counts as paid only in
// the answer to the charge itself, when there was no time to refund it.
func (o *observation) state() intentState {
	intent := o.intent
	failed := o.failure() != apiError{}
	switch {
	case !o.ours || intent.contradictsItself():
		return stateMismatch
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
