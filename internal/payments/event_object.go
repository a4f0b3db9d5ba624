package payments

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"

	stripe "github.com/stripe/stripe-go/v76"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// eventPaths are the only addresses that events lead to, whatever they say.
//
//nolint:gochecknoglobals // a table that nothing writes to
var eventPaths = map[ObjectKind]struct{ path, expand string }{
	ObjectIntent:  {intentsPath + "/%s", "latest_charge"},
	ObjectCharge:  {"/v1/charges/%s", "payment_intent"},
	ObjectRefund:  {"/v1/refunds/%s", "payment_intent"},
	ObjectDispute: {"/v1/disputes/%s", "payment_intent"},
}

// EventIntent reads the object that an event is about, and returns the payment
// intent that it belongs to, as it is now. It returns false if Stripe doesn't
// have the object, or if that belongs to no payment intent. Only for an
// ObjectIntent does the intent tell what became of its charge.
func (s *Stripe) EventIntent(ctx context.Context, kind ObjectKind, id string) (Intent, bool, error) {
	answer := new(eventObject)
	r := request{
		call: callEvent, method: http.MethodGet, path: stripe.FormatURLPath(eventPaths[kind].path, id),
		form: "expand[]=" + eventPaths[kind].expand,
	}
	o := s.send(ctx, r, answer)
	intent := answer.intent()
	if answer.Object != string(kind) || answer.ID != id || intent != nil && !s.believes(intent) {
		o.distrust()
	}
	switch s.countRow(o).then {
	case verdictYes:
		if intent == nil {
			return Intent{}, false, nil
		}
		return newIntent(intent), true, nil
	case verdictNo:
		return Intent{}, false, nil
	default:
		return Intent{}, false, o.asError()
	}
}

// believes reports whether an intent that an answer holds is whole, in the mode
// of the API key, and has ids that a row can hold.
func (s *Stripe) believes(pi *stripe.PaymentIntent) bool {
	i := readIntent(pi)
	return pi.Object == "payment_intent" && i.id != "" && i.live == s.Live() && isWord(i.id) && isWord(i.chargeID)
}

// An eventObject is a payment intent, or an object that names one.
type eventObject struct {
	ID     string `json:"id"`
	Object string `json:"object"`
	// Expanded is that of a charge, a refund or a dispute.
	Expanded *stripe.PaymentIntent `json:"payment_intent"`
	// Whole is the object itself, if it is a payment intent.
	Whole *stripe.PaymentIntent `json:"-"`
}

// UnmarshalJSON reads the object once more if it is a payment intent.
func (e *eventObject) UnmarshalJSON(body []byte) error {
	type plain eventObject
	if err := json.Unmarshal(body, (*plain)(e)); err != nil || e.Object != string(ObjectIntent) {
		return err
	}
	e.Whole = new(stripe.PaymentIntent)
	return json.Unmarshal(body, e.Whole)
}

// intent returns the payment intent that the object is or belongs to, or nil.
func (e *eventObject) intent() *stripe.PaymentIntent {
	if e.Whole != nil {
		return e.Whole
	}
	return e.Expanded
}

// eventRows judge the object that an event is about.
func eventRows() []resultRow {
	return []resultRow{
		{name: "object_read", then: verdictYes, when: (*observation).hasObject},
		{name: "object_missing", then: verdictNo, when: (*observation).missing},
		{name: "object_unclear", then: verdictUnknown, when: func(o *observation) bool { return !o.hasObject() && !o.missing() }},
	}
}

// Settles reports whether FindCharge would end the charge because of the
// intent, as the intent is: as charged or as declined.
func (s *Stripe) Settles(i Intent, sent phases.Sent[ChargeForm]) bool {
	o := &observation{
		call: callRead, status: http.StatusOK, body: bodyObject, intent: i.seen,
		ours: sent.Form.matches(i.seen) && i.seen.live == s.Live(),
	}
	o.settled, o.windowOver = sent.Ref == i.ID, sent.WindowOver
	return slices.Contains([]verdict{verdictCharged, verdictDeclined, verdictCancel}, rowFor(o).then)
}

// CloseIntent makes sure that a payment intent whose charge was declined never
// succeeds, and returns false if it already has. One that Stripe doesn't have
// is closed: its account was cleared of test data. That it is another account's
// can't be, because MoveAccount leaves no payment open. operation is the one
// that the intent carries. An error means that it isn't known.
func (s *Stripe) CloseIntent(ctx context.Context, id, operation string) (closed bool, err error) {
	o := s.cancel(ctx, id, NewChargeForm(ChargeTerms{Operation: operation}))
	s.countRow(o)
	if o.hasObject() && o.intent.id == id && o.intent.operation == operation && o.intent.isClosed() {
		return true, nil
	}
	if !o.hasObject() && !o.badRequest() {
		return false, o.asError()
	}
	// It can't be canceled, or was before.
	intent, found, err := s.EventIntent(ctx, ObjectIntent, id)
	switch {
	case err != nil:
		return false, err
	case !found || intent.seen.isClosed():
		return true, nil
	case intent.Succeeded:
		return false, nil
	default:
		return false, o.asError()
	}
}

// isClosed reports whether the intent was canceled and has taken no money.
func (i paymentIntent) isClosed() bool { return i.status == "canceled" && i.received == 0 }
