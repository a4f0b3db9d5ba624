package payments

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// VerifyRefunded reads the refunds of the payment that form refunds, which must
// be the one that was frozen for the key, for an operator who says that the
// refund with the id settled it. It returns a Refund that is done only if that
// refund is one of them, and succeeded refunds are all that was paid. The error
// says in plain words what is missing.
func (s *Stripe) VerifyRefunded(ctx context.Context, key string, form RefundForm, paid Paid, refundID string) (Refund, error) {
	if err := form.Check(key); err != nil {
		return Refund{}, uncomparable(err)
	}
	if !strings.HasPrefix(refundID, "re_") || !isWord(refundID) {
		return Refund{}, errors.New("a refund's id begins with re_")
	}
	o, err := s.seenRefunds(ctx, form, paid)
	if err != nil {
		return Refund{}, err
	}
	intent := safeWord(form.Terms().IntentID)
	if !slices.ContainsFunc(o.refunds.all, func(r refundSeen) bool { return r.id == refundID && r.succeeded() }) {
		return Refund{}, fmt.Errorf("%s is no refund of %s that succeeded", refundID, intent)
	}
	if !o.allBack() {
		return Refund{}, fmt.Errorf("of the %d that %s took, %d were given back", paid.Amount, intent, o.refunds.sum(refundSeen.succeeded))
	}
	return Refund{Result: RefundDone, Given: Given{refundID, GivenSucceeded, paid.Amount}, Detail: o.text()}, nil
}

// A RefundPossibleError names a refund that has given money back, or still may.
type RefundPossibleError struct {
	RefundID string
	Status   string // Stripe's, such as succeeded
}

// Error also says what to do.
func (e *RefundPossibleError) Error() string {
	return fmt.Sprintf("refund %s is %s; resolve the key with --refunded once all of the payment is back", e.RefundID, e.Status)
}

// VerifyNotRefunded returns nil only if it has seen all refunds of the payment
// that form refunds, which is the key's, each that carries form's operation has
// failed or was canceled, and the others don't give all of the payment back.
// Else it returns a *RefundPossibleError; another error means that it could not
// see everything.
func (s *Stripe) VerifyNotRefunded(ctx context.Context, key string, form RefundForm, paid Paid) error {
	if err := form.Check(key); err != nil {
		return uncomparable(err)
	}
	o, err := s.seenRefunds(ctx, form, paid)
	if err != nil {
		return err
	}
	for _, r := range o.refunds.all {
		if !r.failed() && (r.own || o.allGiven()) {
			return &RefundPossibleError{RefundID: safeWord(r.id), Status: safeWord(string(r.status))}
		}
	}
	return nil
}

// seenRefunds returns all refunds of the payment that form refunds, or an error
// if they can't be seen or believed. It ends after phases.DefaultFindTimeout at
// the latest.
func (s *Stripe) seenRefunds(ctx context.Context, form RefundForm, paid Paid) (*observation, error) {
	ctx, cancel := context.WithTimeout(ctx, phases.DefaultFindTimeout)
	defer cancel()
	o := s.listRefunds(ctx, form.Terms(), paid)
	s.countRow(o)
	switch {
	case !o.hasObject():
		return o, o.asError()
	case o.refunds.wrong:
		return o, fmt.Errorf("the refunds contradict the payment: %s", o.text())
	}
	return o, nil
}
