package payments

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
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
	var form formWriter
	form.Grow(512)
	form.add("amount", strconv.FormatInt(terms.Amount, 10))
	form.add("confirm", "true")
	form.add("currency", terms.Currency)
	form.add("customer", terms.Customer)
	form.add("description", terms.Description)
	form.add("metadata[account_id]", terms.AccountID)
	form.add("metadata[operation]", terms.Operation)
	form.add("metadata[ride_id]", terms.RideID)
	form.add("payment_method", terms.PaymentMethod)
	form.add("payment_method_types[0]", "card")
	form.add("off_session", "true")
	return ChargeForm(form.String())
}

// terms returns what the form was made of. It is empty if the form isn't
// form-encoded; an amount that isn't a number is 0.
func (f ChargeForm) terms() ChargeTerms {
	var terms ChargeTerms
	for name, value := range fields(string(f)) {
		switch name {
		case "":
			return ChargeTerms{}
		case "amount":
			if amount, err := strconv.ParseInt(value, 10, 64); err == nil {
				terms.Amount = amount
			}
		case "currency":
			terms.Currency = value
		case "customer":
			terms.Customer = value
		case "payment_method":
			terms.PaymentMethod = value
		case "description":
			terms.Description = value
		case "metadata[ride_id]":
			terms.RideID = value
		case "metadata[account_id]":
			terms.AccountID = value
		case "metadata[operation]":
			terms.Operation = value
		}
	}
	return terms
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

// differences returns everything in which intent is not what the form asks for,
// in the mode of our API key and, unless id is empty, under that id. matches
// decides; this tells people why.
func (f ChargeForm) differences(intent paymentIntent, id string, live bool) []term {
	terms := f.terms()
	return unlike([]term{
		{"id", intent.id, cmp.Or(id, safeWord(intent.id))},
		{"charge", intent.chargeID, safeWord(intent.chargeID)},
		{"mode", ModeName(intent.live), ModeName(live)},
		{"amount", strconv.FormatInt(intent.amount, 10), strconv.FormatInt(terms.Amount, 10)},
		{"currency", intent.currency, terms.Currency},
		{"customer", intent.customer, terms.Customer},
		{"account", intent.accountID, terms.AccountID},
		{"ride", intent.rideID, terms.RideID},
		{"operation", intent.operation, terms.Operation},
	})
}

// A term is a value of Stripe's answer and the one that was wanted.
type term struct{ name, is, want string }

// said says in words, without secrets, that the values differ.
func (t term) said() string {
	word := func(value string) string { return cmp.Or(safeWord(value), "empty") }
	is, want := word(t.is), word(t.want)
	if is == want { // neither can be shown
		return fmt.Sprintf("its %s is %s", t.name, is)
	}
	return fmt.Sprintf("its %s is %s, not %s", t.name, is, want)
}

// unlike returns the terms whose value isn't the one that was wanted.
func unlike(terms []term) []term {
	return slices.DeleteFunc(terms, func(t term) bool { return t.is == t.want })
}
