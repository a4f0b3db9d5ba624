package payments

import (
	"net/url"

	stripe "github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/form"
)

// A RefundForm is the body of the request that refunds a payment, as
// application/x-www-form-urlencoded, exactly as it is sent. NewRefundForm makes
// one. It is frozen before the first send, as a ChargeForm is.
type RefundForm string

// RefundTerms is what a refund is made of. There is no amount in it: Stripe
// refunds what is left, whatever was refunded before.
type RefundTerms struct {
	IntentID  string // the payment intent that is refunded (pi_…)
	RideID    string
	AccountID string
	// Operation is the idempotency key that the form is sent under. It is in
	// the metadata too, so that the refund can be told from others.
	Operation string
}

// NewRefundForm returns the form that refunds terms. The same terms make the
// same bytes.
func NewRefundForm(terms RefundTerms) RefundForm {
	var values form.Values
	form.AppendTo(&values, &stripe.RefundParams{
		PaymentIntent: new(terms.IntentID),
		Metadata: map[string]string{
			"ride_id":    terms.RideID,
			"account_id": terms.AccountID,
			"operation":  terms.Operation,
		},
	})
	return RefundForm(values.Encode())
}

// Terms returns what the form was made of. It is empty if the form isn't
// form-encoded.
func (f RefundForm) Terms() RefundTerms {
	values, err := url.ParseQuery(string(f))
	if err != nil {
		return RefundTerms{}
	}
	return RefundTerms{
		IntentID:  values.Get("payment_intent"),
		RideID:    values.Get("metadata[ride_id]"),
		AccountID: values.Get("metadata[account_id]"),
		Operation: values.Get("metadata[operation]"),
	}
}
