package payments

import (
	"context"
	"errors"
	"net/http"
	"strings"

	stripe "github.com/stripe/stripe-go/v76"
)

// A payerState is what Stripe says about the customer and the payment method of
// a charge.
type payerState int

const (
	payerUnasked payerState = iota
	payerThere              // both exist and belong together
	payerGone               // one of them doesn't exist, or they don't belong together
	payerUnclear            // the question wasn't answered
)

// askPayer asks whether a charge's customer and payment method still exist and
// belong together.
func (s *Stripe) askPayer(ctx context.Context, terms ChargeTerms) payerState {
	state := s.payerStateBy(s.readCustomer(ctx, terms.Customer))
	if state != payerThere || s.isTestToken(terms.PaymentMethod) {
		return state
	}
	return s.payerStateBy(s.readMethod(ctx, terms.PaymentMethod, terms.Customer))
}

func (s *Stripe) payerStateBy(o *observation) payerState {
	switch s.countRow(o).then {
	case verdictYes:
		return payerThere
	case verdictNo:
		return payerGone
	default:
		return payerUnclear
	}
}

// CheckPayer returns nil if Stripe has the customer and the payment method, and
// they belong together, so that a charge can succeed. The error is one sentence
// for an operator.
func (s *Stripe) CheckPayer(ctx context.Context, customer, method string) error {
	err := s.payerError(s.readCustomer(ctx, customer), "Stripe has no customer "+customer)
	if err != nil || s.isTestToken(method) {
		return err
	}
	return s.payerError(s.readMethod(ctx, method, customer), "Stripe has no payment method "+method+" of "+customer)
}

// payerError returns nil, an error that says what is missing, or why that isn't
// known.
func (s *Stripe) payerError(o *observation, missing string) error {
	switch s.payerStateBy(o) {
	case payerThere:
		return nil
	case payerGone:
		return errors.New(missing)
	default:
		return o.asError()
	}
}

// isTestToken reports whether id is one of Stripe's names for test cards. They
// belong to no customer, and can be charged for any.
func (s *Stripe) isTestToken(id string) bool { return !s.Live() && strings.HasPrefix(id, "pm_card_") }

// readCustomer asks for a customer.
func (s *Stripe) readCustomer(ctx context.Context, id string) *observation {
	answer := new(stripe.Customer)
	path := stripe.FormatURLPath("/v1/customers/%s", id)
	o := s.send(ctx, request{call: callCustomer, method: http.MethodGet, path: path}, answer)
	if answer.Object != "customer" || answer.ID != id || !answer.Deleted && answer.Livemode != s.Live() {
		o.distrust()
	}
	o.gone = answer.Deleted
	return o
}

// readMethod asks for a payment method that should belong to a customer.
func (s *Stripe) readMethod(ctx context.Context, id, customer string) *observation {
	answer := new(stripe.PaymentMethod)
	path := stripe.FormatURLPath("/v1/payment_methods/%s", id)
	o := s.send(ctx, request{call: callMethod, method: http.MethodGet, path: path}, answer)
	if answer.Object != "payment_method" || answer.ID != id || answer.Livemode != s.Live() {
		o.distrust()
	}
	o.gone = answer.Customer == nil || answer.Customer.ID != customer
	return o
}

// distrust makes an answer 200 count as unreadable.
func (o *observation) distrust() {
	if o.hasObject() {
		o.body = bodyOther
	}
}

// payerRows judge a customer, or a payment method that should be the
// customer's.
func payerRows() []resultRow {
	return []resultRow{
		{name: "payer_there", then: verdictYes, when: func(o *observation) bool { return o.hasObject() && !o.gone }},
		// It was deleted or detached, or belongs to another customer.
		{name: "payer_left", then: verdictNo, when: func(o *observation) bool { return o.hasObject() && o.gone }},
		{name: "payer_missing", then: verdictNo, when: (*observation).missing},
		{name: "payer_unclear", then: verdictUnknown, when: func(o *observation) bool { return !o.hasObject() && !o.missing() }},
	}
}
