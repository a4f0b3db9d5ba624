package payments

import (
	"net/url"
	"strconv"

	stripe "github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/form"
)

// A ChargeForm is the body of the request that charges a ride, as
// application/x-www-form-urlencoded, exactly as it is sent. NewChargeForm makes
// one. It is frozen in the database before the first send. From then on neither
// a deploy nor an edited account changes it: Stripe answers an error to other
// parameters under the same idempotency key, after the first send may have
// charged the card.
type ChargeForm string

// ChargeTerms is what the charge of one ride is made of. Nothing in it may
// differ between two requests with the same idempotency key, so nothing in it
// comes from a clock, a sequence or a request's headers.
type ChargeTerms struct {
	Amount        int64  // in the currency's smallest unit
	Currency      string // ISO 4217, lower case
	Customer      string // cus_…
	PaymentMethod string // pm_…
	Description   string // shown on Stripe's dashboard and receipts
	RideID        string
	AccountID     string
	// Operation is the idempotency key that the form is sent under. It is in
	// the metadata too, so that what the form made at Stripe can be found
	// again.
	Operation string
}

// NewChargeForm returns the form that charges terms. The same terms make the
// same bytes.
func NewChargeForm(terms ChargeTerms) ChargeForm {
	var values form.Values
	form.AppendTo(&values, &stripe.PaymentIntentParams{
		Amount:             new(terms.Amount),
		Currency:           new(terms.Currency),
		Customer:           new(terms.Customer),
		PaymentMethod:      new(terms.PaymentMethod),
		Confirm:            new(true),
		OffSession:         new(true),
		PaymentMethodTypes: stripe.StringSlice([]string{"card"}),
		Description:        new(terms.Description),
		Metadata: map[string]string{
			"ride_id":    terms.RideID,
			"account_id": terms.AccountID,
			"operation":  terms.Operation,
		},
	})
	return ChargeForm(values.Encode())
}

// AccountID returns the account that pays, from the metadata.
func (f ChargeForm) AccountID() string { return f.terms().AccountID }

// terms returns what the form was made of. It is empty if the form isn't
// form-encoded; an amount that isn't a number is 0.
func (f ChargeForm) terms() ChargeTerms {
	values, err := url.ParseQuery(string(f))
	if err != nil {
		return ChargeTerms{}
	}
	amount, err := strconv.ParseInt(values.Get("amount"), 10, 64)
	if err != nil {
		amount = 0 // ParseInt returns the nearest number if this one is too large
	}
	return ChargeTerms{
		Amount:        amount,
		Currency:      values.Get("currency"),
		Customer:      values.Get("customer"),
		PaymentMethod: values.Get("payment_method"),
		Description:   values.Get("description"),
		RideID:        values.Get("metadata[ride_id]"),
		AccountID:     values.Get("metadata[account_id]"),
		Operation:     values.Get("metadata[operation]"),
	}
}

// matches reports whether intent is what the form asks for. Stripe's answer is
// believed only if it is: an answer about another object (from a proxy that
// mixes up connections, or for a wrong id) must never mark a ride as paid. Ids
// that aren't words don't come from Stripe, and the ride's row couldn't hold
// them (NUL, megabytes), so its key would never be finished.
func (f ChargeForm) matches(intent paymentIntent) bool {
	terms := f.terms()
	return intent.id != "" &&
		isWord(intent.id) &&
		isWord(intent.chargeID) &&
		intent.amount == terms.Amount &&
		intent.currency == terms.Currency &&
		intent.customer == terms.Customer &&
		intent.rideID == terms.RideID &&
		intent.accountID == terms.AccountID &&
		intent.operation == terms.Operation
}
