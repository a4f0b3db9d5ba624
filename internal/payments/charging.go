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

// Charge sends what is frozen, once, and returns what Stripe decided. The error
// is a *phases.CallError: unknown where the card may have been charged,
// transient where this send certainly didn't, look-up where sending again could
// not tell. It is the Do of a foreign phase.
//
// The method is bounded by ctx and by the configured time-out, whichever ends
// first. Nothing is sent again inside it, whatever Stripe-Should-Retry says:
// further tries are the engine's.
func (s *Stripe) Charge(ctx context.Context, sent phases.Sent[ChargeForm]) (Charge, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	o := s.create(ctx, sent.Key, sent.Form)
	o.first = sent.First
	return s.conclude(ctx, sendRows(), o, sent.Form)
}

// FindCharge looks for what an earlier send may have made, and sends no charge.
// It is the Find of a foreign phase. It reads the payment intent named by
// sent.Ref or, without one, all of the customer's payment intents since an hour
// before the first send; never Stripe's search, which lags behind. An intent
// that failed after all is canceled when the charge will never be sent again,
// so that it cannot succeed behind our back.
//
// Having seen everything and found nothing conclusive it returns an error that
// wraps phases.ErrNothingFound. Whatever could not be read to its end is
// unknown, never nothing. The time-out is that of Charge.
func (s *Stripe) FindCharge(ctx context.Context, sent phases.Sent[ChargeForm]) (Charge, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if sent.Ref != "" {
		o := s.read(ctx, sent.Ref, sent.Form)
		o.settled = true
		return s.conclude(ctx, readRows(), o, sent.Form)
	}
	o := s.list(ctx, sent.FirstSentAt, sent.Form)
	o.windowOver = sent.WindowOver
	return s.conclude(ctx, listRows(), o, sent.Form)
}

// conclude judges o by a table, and makes the one further request that some
// rows ask for: at most two of them, to read what was found and to cancel it.
func (s *Stripe) conclude(ctx context.Context, table []resultRow, o observation, form ChargeForm) (Charge, error) {
	row := rowFor(table, o)
	s.meters.judged(o.call, row.name)
	switch row.then {
	case isRead:
		next := s.read(ctx, o.subject(), form)
		next.settled = o.call == callCharge
		next.windowOver = o.windowOver
		next.earlier = o.failure()
		return s.conclude(ctx, readRows(), next, form)
	case isCancel:
		next := s.cancel(ctx, o.intent.id, form)
		next.earlier = o.failure()
		return s.conclude(ctx, cancelRows(), next, form)
	default:
		return row.report(o, s.saved500After)
	}
}

// subject is the id of the intent that an answer is about.
func (o observation) subject() string {
	if o.call == callList {
		return o.found[0]
	}
	return o.intent.id
}

// VerifyCharged reads the payment intent that an operator names as the charge
// of form. It returns a Charge that succeeded only if the intent has form's
// amount, currency, customer, ride, account and operation, succeeded, and was
// neither refunded nor disputed; the Detail of any other Charge says in plain
// words what is wrong with it. The time-out is that of Charge.
func (s *Stripe) VerifyCharged(ctx context.Context, form ChargeForm, intentID string) (Charge, error) {
	if !strings.HasPrefix(intentID, "pi_") || stripeWord(intentID) != intentID {
		return Charge{}, errors.New("a payment intent's id begins with pi_")
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	o := s.read(ctx, intentID, form)
	o.settled = true
	row := rowFor(readRows(), o)
	s.meters.judged(o.call, row.name)
	charge, err := row.report(o, s.saved500After)
	if err == nil && charge.Status != ChargeSucceeded {
		charge.Detail = o.unpaid(intentID, form)
	}
	return charge, err
}

// unpaid says why the intent id, which was read, did not pay for form:
// everything in which it differs from what did.
func (o observation) unpaid(id string, form ChargeForm) string {
	switch {
	case o.refused(http.StatusNotFound):
		return "Stripe knows no payment intent " + id
	case !o.object():
		return o.text()
	}
	var wrong []string
	for _, field := range []struct{ name, is, want string }{
		{"id", o.intent.id, id},
		{"amount", strconv.FormatInt(o.intent.amount, 10), strconv.FormatInt(form.Amount(), 10)},
		{"currency", o.intent.currency, form.Currency()},
		{"customer", o.intent.customer, form.Customer()},
		{"account", o.intent.accountID, form.AccountID()},
		{"ride", o.intent.rideID, form.RideID()},
		{"operation", o.intent.operation, form.Operation()},
		{"status", o.intent.status, "succeeded"},
		{"amount received", strconv.FormatInt(o.intent.received, 10), strconv.FormatInt(form.Amount(), 10)},
	} {
		if field.is != field.want {
			wrong = append(wrong, fmt.Sprintf("its %s is %s, not %s", field.name, cmp.Or(stripeWord(field.is), "empty"), field.want))
		}
	}
	if o.intent.refunded {
		wrong = append(wrong, "it was refunded")
	}
	if o.intent.disputed {
		wrong = append(wrong, "it was disputed")
	}
	return cmp.Or(strings.Join(wrong, "; "), "its charge was not paid")
}

// A ChargePossibleError names a payment intent that has charged the card, or
// may yet.
type ChargePossibleError struct {
	IntentID string
	Status   string // Stripe's, such as succeeded
}

// Error says what to do about the intent.
func (e *ChargePossibleError) Error() string {
	return fmt.Sprintf("payment intent %s is %s: it has charged the card or may yet; refund or cancel it at Stripe first", e.IntentID, e.Status)
}

// VerifyNotCharged returns nil only after it has seen all of the customer's
// payment intents since an hour before since (since ever, for the zero time),
// and each one that carries form's operation is canceled or refunded in full.
// For any other intent it returns a *ChargePossibleError; another error means
// that not everything could be seen. The time-out is that of Charge, for all
// requests together.
func (s *Stripe) VerifyNotCharged(ctx context.Context, form ChargeForm, since time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	listed := s.list(ctx, since, form)
	s.meters.judged(listed.call, rowFor(listRows(), listed).name)
	if !listed.object() {
		return listed.failureText()
	}
	for _, id := range listed.found {
		o := s.read(ctx, id, form)
		s.meters.judged(o.call, rowFor(readRows(), o).name)
		if !o.object() {
			return o.failureText()
		}
		if !o.harmless(id) {
			return &ChargePossibleError{IntentID: stripeWord(id), Status: stripeWord(o.intent.status)}
		}
	}
	return nil
}

// harmless tells that the intent id has not charged the card, or has given all
// of it back, for good.
func (o observation) harmless(id string) bool {
	intent := o.intent
	refunded := intent.status == "succeeded" && intent.refundedInFull && !intent.disputed
	canceled := intent.status == "canceled" && intent.received == 0
	return intent.id == id && (refunded || canceled)
}
