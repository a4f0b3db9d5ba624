package payments

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// VerifyCharged reads the payment intent that an operator names as the charge
// of form. It returns a Charge that succeeded only if the intent has form's
// amount, currency, customer, ride, account and operation, succeeded, and was
// not refunded. It may be disputed: that the cardholder contests a charge
// doesn't undo it, and the operator who names it knows. The Detail of any other
// Charge says in plain words what is wrong with the intent.
func (s *Stripe) VerifyCharged(ctx context.Context, form ChargeForm, intentID string) (Charge, error) {
	if !strings.HasPrefix(intentID, "pi_") || !isWord(intentID) {
		return Charge{}, errors.New("a payment intent's id begins with pi_")
	}
	o := s.read(ctx, intentID, form)
	o.settled, o.intent.disputed = true, false
	charge, err := s.countRow(o).chargeFor(o, s.saved500After)
	if err == nil && charge.Status != ChargeSucceeded {
		charge.Detail = o.whyNotPaid(intentID, form, s.Live())
	}
	return charge, err
}

// whyNotPaid says why the intent with the id, which was read, did not pay for
// form: everything in which it differs from an intent that did, in the mode of
// our API key.
func (o *observation) whyNotPaid(id string, form ChargeForm, live bool) string {
	switch {
	case o.refused(http.StatusNotFound):
		return "Stripe knows no payment intent " + id
	case !o.hasObject():
		return o.text()
	}
	terms := form.terms()
	var wrong []string
	for _, field := range []struct{ name, is, want string }{
		{"id", o.intent.id, id},
		{"mode", modeName(o.intent.live), modeName(live)},
		{"amount", strconv.FormatInt(o.intent.amount, 10), strconv.FormatInt(terms.Amount, 10)},
		{"currency", o.intent.currency, terms.Currency},
		{"customer", o.intent.customer, terms.Customer},
		{"account", o.intent.accountID, terms.AccountID},
		{"ride", o.intent.rideID, terms.RideID},
		{"operation", o.intent.operation, terms.Operation},
		{"status", o.intent.status, "succeeded"},
		{"amount received", strconv.FormatInt(o.intent.received, 10), strconv.FormatInt(terms.Amount, 10)},
	} {
		if field.is != field.want {
			wrong = append(wrong, fmt.Sprintf("its %s is %s, not %s", field.name, cmp.Or(safeWord(field.is), "empty"), field.want))
		}
	}
	if o.intent.refunded {
		wrong = append(wrong, "it was refunded")
	}
	return cmp.Or(strings.Join(wrong, "; "), "its charge was not paid")
}

// A ChargePossibleError names a payment intent that has charged the card, or
// still may.
type ChargePossibleError struct {
	IntentID string
	Status   string // Stripe's, such as succeeded
}

// Error also says what to do about the intent.
func (e *ChargePossibleError) Error() string {
	if e.Status == "succeeded" {
		return fmt.Sprintf("payment intent %s has charged the card; resolve the key with --charged %[1]s, or refund it at Stripe first", e.IntentID)
	}
	return fmt.Sprintf("payment intent %s is %s and may still charge the card; cancel it at Stripe first", e.IntentID, e.Status)
}

// VerifyNotCharged returns nil only if it has seen all payment intents of
// form's customer and of customers since 30 days before since (all of them, for
// the zero time), and each that carries form's operation is canceled or
// refunded in full. A customer that Stripe doesn't know has none. For any other
// intent it returns a *ChargePossibleError. Another error means that it could
// not see everything. It ends after phases.DefaultFindTimeout at the latest.
//
// customers are all that the account has or had; see FindCharge.
func (s *Stripe) VerifyNotCharged(ctx context.Context, form ChargeForm, since time.Time, customers []string) error {
	ctx, cancel := context.WithTimeout(ctx, phases.DefaultFindTimeout)
	defer cancel()
	list := s.list(ctx, since, form, customers)
	s.countRow(list)
	if !list.hasObject() && !list.noCustomer() {
		return list.asError()
	}
	for _, id := range list.found {
		o := s.read(ctx, id, form)
		s.countRow(o)
		if !o.hasObject() {
			return o.asError()
		}
		if !o.intent.holdsNoMoney(id) {
			return &ChargePossibleError{IntentID: safeWord(id), Status: safeWord(o.intent.status)}
		}
	}
	return nil
}

// holdsNoMoney reports whether i is the intent with the id, and has not charged
// the card, or has given all of it back, for good.
func (i paymentIntent) holdsNoMoney(id string) bool {
	refunded := i.status == "succeeded" && i.refundedInFull && !i.disputed
	canceled := i.status == "canceled" && i.received == 0
	return i.id == id && (refunded || canceled)
}
