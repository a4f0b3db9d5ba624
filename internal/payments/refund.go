package payments

import (
	"context"
	"fmt"
	"net/http"
	"time"

	stripe "github.com/stripe/stripe-go/v76"

	"github.com/rocketrides/rocketrides/internal/phases"
)

const refundsPath = "/v1/refunds"

// RefundResult says what Stripe decided about a refund.
type RefundResult string

const (
	// RefundDone means that all of the payment is back with the card's holder.
	RefundDone RefundResult = "refunded"
	// RefundOpen means that all of it is back or on its way.
	RefundOpen RefundResult = "pending"
	// RefundRefused means that this refund failed or was refused, for good.
	RefundRefused RefundResult = "refused"
	// RefundSuspect means that only a person can tell: the key is parked.
	RefundSuspect RefundResult = "suspect"
)

// Paid is what a payment intent took from the card, which a refund gives back.
type Paid struct {
	Amount   int64  // in the currency's smallest unit
	Currency string // ISO 4217, lower case
}

// Refund is what Stripe said about the refund of one payment.
type Refund struct {
	Result RefundResult
	// Given is what was given back so far, whoever did it.
	Given Given
	// Own, for RefundOpen, is the id of the refund that was made under the key.
	// It is empty if all of it is others': one of those may still fail, and then
	// the key's own must be sent.
	Own string
	// Disputed, for RefundRefused, means that Stripe refuses because the card's
	// holder contests the charge.
	Disputed bool
	// Failed, for RefundRefused, means that a refund of the payment failed,
	// also if another gave back a part. Then another key may refund the rest.
	Failed bool
	// Reason, for RefundSuspect, is what the key is parked for: one word.
	Reason string
	// Detail is one line about Stripe's answer, for the audit trail and for the
	// person who has to decide. It holds no secret.
	Detail string
}

// Missing is what of one payment is neither back nor on its way.
type Missing struct {
	Amount int64
	Failed []Given // each refund that failed, the newest first
}

// Given is what was given back of one payment, by one or more refunds.
type Given struct {
	// ID (re_…) is that of the refund that says most about it: ours, unless
	// that failed and another didn't, else the newest. It is empty if there is
	// no refund.
	ID string
	// Status is succeeded, pending or failed. It is pending while a refund is
	// on its way, and failed if all of them failed.
	Status string
	// Amount is what is back or on its way; for failed, what is not.
	Amount int64
}

// The values of Given.Status.
const (
	GivenSucceeded = "succeeded"
	GivenPending   = "pending"
	GivenFailed    = "failed"
)

// Refund sends what is frozen, once, and returns what Stripe decided about
// giving back what was paid. It is the Do of a foreign phase. If Stripe's answer
// isn't a new refund that succeeded, all refunds of the payment are read, and
// they decide: so a refund that somebody made at Stripe's dashboard counts too.
// Its error is a *phases.CallError, with the classes that Charge has.
func (s *Stripe) Refund(ctx context.Context, sent phases.Sent[RefundForm], paid Paid) (Refund, error) {
	o := s.createRefund(ctx, sent.Key, sent.Form, paid)
	o.first = sent.First
	return s.judgeRefund(ctx, o, sent.Form, paid)
}

// FindRefund looks for what an earlier send may have made, and sends nothing
// that refunds. It is the Find of a foreign phase. It reads all refunds of the
// payment, which also tell what became of a refund that was pending. If the form
// isn't the key's, nothing is looked for, and the result is suspect.
//
// Its error wraps phases.ErrNothingFound if it has seen everything and found
// nothing conclusive. If anything could not be read, the result is unknown, not
// nothing.
func (s *Stripe) FindRefund(ctx context.Context, sent phases.Sent[RefundForm], paid Paid) (Refund, error) {
	if err := sent.Form.Check(sent.Key); err != nil {
		return s.judgeRefund(ctx, &observation{call: callRefund, fault: faultForm, err: err}, sent.Form, paid)
	}
	o := s.listRefunds(ctx, sent.Form.Terms(), paid)
	o.windowOver = sent.WindowOver
	return s.judgeRefund(ctx, o, sent.Form, paid)
}

// RefundsOf returns what was given back of a payment, and what of it is missing
// because refunds failed; that is empty if nothing is.
func (s *Stripe) RefundsOf(ctx context.Context, intentID string, paid Paid) (Given, Missing, error) {
	o, err := s.seenRefunds(ctx, NewRefundForm(RefundTerms{IntentID: intentID}), paid)
	if err != nil {
		return Given{}, Missing{}, err
	}
	return o.refunds.given(), o.refunds.missing(paid), nil
}

// createRefund sends the form under the idempotency key.
func (s *Stripe) createRefund(ctx context.Context, key string, form RefundForm, paid Paid) *observation {
	if err := form.Check(key); err != nil {
		return &observation{call: callRefund, fault: faultForm, err: err}
	}
	answer := new(stripe.Refund)
	o := s.send(ctx, request{callRefund, http.MethodPost, refundsPath, key, string(form)}, answer)
	o.demand("refund", answer.Object, answer.ID)
	if o.hasObject() {
		terms := form.Terms()
		o.refunds.add(answer, terms, paid)
		_, own := o.refunds.own()
		o.ours = own && !o.refunds.wrong &&
			answer.Metadata["ride_id"] == terms.RideID && answer.Metadata["account_id"] == terms.AccountID
	}
	o.paid = paid.Amount
	return o
}

// refunds returns a listing of refunds.
func (s *Stripe) refunds() *listing[stripe.Refund] {
	return newListing(s, callRefunds, refundsPath, func(r *stripe.Refund) string { return r.ID })
}

// listRefunds reads all refunds of a payment.
func (s *Stripe) listRefunds(ctx context.Context, terms RefundTerms, paid Paid) *observation {
	var found refundList
	o, _ := s.refunds().pages(ctx, &stripe.RefundListParams{PaymentIntent: new(terms.IntentID)}, func(page []*stripe.Refund) error {
		for _, refund := range page {
			found.add(refund, terms, paid)
		}
		return nil
	})
	o.refunds, o.paid = found, paid.Amount
	return o
}

// judgeRefund finds the row that matches o and does what it says. After a refund
// whose answer doesn't decide, all refunds are read.
func (s *Stripe) judgeRefund(ctx context.Context, o *observation, form RefundForm, paid Paid) (Refund, error) {
	row := s.countRow(o)
	if row.then != verdictRead {
		return row.refundFor(o, s.saved500After)
	}
	next := s.listRefunds(ctx, form.Terms(), paid)
	next.settled = o.hasObject()
	next.earlier, next.stop, next.alone, next.saved = o.apiError, o.badRequest(), o.first || o.replayed, o.replayed
	return s.judgeRefund(ctx, next, form, paid)
}

// refundFor returns what the row makes of o: a Refund, or the error that the
// engine acts on.
func (r resultRow) refundFor(o *observation, patience time.Duration) (Refund, error) {
	refund := Refund{Given: o.refunds.given(), Detail: o.text()}
	switch r.then {
	case verdictRefunded:
		refund.Result = RefundDone
	case verdictRefundOpen:
		refund.Result = RefundOpen
		own, _ := o.refunds.own()
		refund.Own = own.id
	case verdictRefundRefused:
		refund.Result = RefundRefused
		refund.Disputed = o.disputeRefuses()
		refund.Failed = o.refunds.sum(refundSeen.failed) > 0
	case verdictSuspect:
		refund.Result, refund.Reason = RefundSuspect, r.reason
	case verdictNothing:
		return Refund{}, fmt.Errorf("%s: %w", o.text(), phases.ErrNothingFound)
	default:
		return Refund{}, r.callError(o, patience)
	}
	if r.reason == parkMismatch {
		refund.Given = Given{} // somebody else's ids could end up in the ride's row
	}
	return refund, nil
}
