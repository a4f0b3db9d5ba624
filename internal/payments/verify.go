package payments

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// uncomparable adds to err, which says what is wrong with a key's form, what to
// do about the key.
func uncomparable(err error) error {
	return fmt.Errorf("%w, so nothing can be compared with it; look at Stripe's dashboard and resolve the key with --unverified", err)
}

// VerifyCharged reads the payment intent that an operator names as the charge
// of form, which must be the one that was frozen for the key. It returns a
// Charge that succeeded only if the intent has form's amount, currency,
// customer, ride, account and operation, succeeded, and may still hold money: it
// was not refunded in full, or is disputed. That the cardholder contests a charge
// doesn't undo it, and a dispute may keep the rest from being refunded; the
// operator who names the intent knows. So of an intent that succeeded either this
// or VerifyNotCharged is true. The Detail of any other Charge says in plain
// words what is wrong with the intent.
func (s *Stripe) VerifyCharged(ctx context.Context, key string, form ChargeForm, intentID string) (Charge, error) {
	if err := form.Check(key); err != nil {
		return Charge{}, uncomparable(err)
	}
	if !strings.HasPrefix(intentID, "pi_") || !isWord(intentID) {
		return Charge{}, errors.New("a payment intent's id begins with pi_")
	}
	o := s.read(ctx, intentID, form)
	o.settled = true
	if !o.intent.holdsNoMoney(intentID) {
		o.intent.refunded, o.intent.disputed = false, false
	}
	charge, err := s.countRow(o).chargeFor(o, s.saved500After)
	if err == nil && charge.Status != ChargeSucceeded {
		charge.Detail = o.whyNotPaid(intentID, form)
	}
	return charge, err
}

// unpaid says that an intent has no charge that took money.
const unpaid = "its charge was not paid"

// whyNotPaid says why the intent with the id, which was read, did not pay for
// form: everything in which it differs from an intent that did.
func (o *observation) whyNotPaid(id string, form ChargeForm) string {
	switch {
	case o.refused(http.StatusNotFound):
		return "Stripe knows no payment intent " + id
	case !o.hasObject():
		return o.text()
	}
	var wrong []string
	for _, t := range append(slices.Clip(o.differs), unlike([]term{
		{"status", o.intent.status, "succeeded"},
		{"amount received", strconv.FormatInt(o.intent.received, 10), strconv.FormatInt(form.terms().Amount, 10)},
	})...) {
		wrong = append(wrong, t.said())
	}
	if o.intent.refunded {
		wrong = append(wrong, "it was refunded in full")
	}
	return cmp.Or(strings.Join(wrong, "; "), unpaid)
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
		return fmt.Sprintf("payment intent %s has charged the card; resolve the key with --charged %[1]s, or, unless it is disputed, refund it at Stripe first", e.IntentID)
	}
	return fmt.Sprintf("payment intent %s is %s and may still charge the card; cancel it at Stripe first", e.IntentID, e.Status)
}

// VerifyNotCharged returns nil only if it has seen all payment intents of
// form's customer and of customers since 30 days before since (all of them, for
// the zero time), and each that was made under the key is canceled or refunded
// in full, also if the form is another's. A form that names no customer, because
// it is damaged, leaves customers, and without any there is an error. A customer
// that Stripe doesn't know has no intents. For any other intent it returns a
// *ChargePossibleError. Another error means that it could not see everything. It
// ends after phases.DefaultFindTimeout at the latest.
//
// customers are all that the account has or had; see CustomersOf.
func (s *Stripe) VerifyNotCharged(ctx context.Context, key string, form ChargeForm, since time.Time, customers []string) error {
	ctx, cancel := context.WithTimeout(ctx, phases.DefaultFindTimeout)
	defer cancel()
	list := s.list(ctx, since, key, withoutRepeats(form.terms().Customer, customers))
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
