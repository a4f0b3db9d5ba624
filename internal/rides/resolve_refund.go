package rides

import (
	"context"
	"errors"
	"fmt"

	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
)

// ResolveRefunded ends a parked key of a refund as refunded by the refund that a
// person names. It must be one of the ride's payment, and all of the fare must
// be back. seen is the key as the person saw it, and by is who decides, for the
// audit record.
func (r Resolver) ResolveRefunded(ctx context.Context, seen phases.Record, by, refund string) (phases.Result, error) {
	form, paid, err := r.refund(ctx, seen)
	if err != nil {
		return phases.Result{}, err
	}
	verified, err := r.Stripe.VerifyRefunded(ctx, seen.ForeignKey, form, paid, refund)
	if err != nil {
		return phases.Result{}, fmt.Errorf("verifying %s at Stripe: %w", refund, err)
	}
	return r.Engine.ResolveResult(ctx, seen, by, "refunded "+refund, verified)
}

// ResolveNotRefunded ends a parked key of a refund as not refunded. It lists the
// refunds of the ride's payment first, and refuses if one of this key's has
// given money back or still may, or if all of the fare is back or on its way.
// seen is the key as the person saw it, and by is who decides, for the audit
// record.
func (r Resolver) ResolveNotRefunded(ctx context.Context, seen phases.Record, by string) (phases.Result, error) {
	form, paid, err := r.refund(ctx, seen)
	if err != nil {
		return phases.Result{}, err
	}
	if err := r.Stripe.VerifyNotRefunded(ctx, seen.ForeignKey, form, paid); err != nil {
		return phases.Result{}, fmt.Errorf("looking for a refund at Stripe: %w", err)
	}
	return r.Engine.Resolve(ctx, seen, by, "not refunded", notRefunded()[seen.Flow])
}

// ResolveRefundedUnverified ends a parked key of a refund as refunded, without
// asking Stripe. reason, which the audit record shows, says why Stripe can't be
// asked. seen is the key as the person saw it, and by is who decides.
func (r Resolver) ResolveRefundedUnverified(ctx context.Context, seen phases.Record, by, reason, refund string) (phases.Result, error) {
	_, paid, err := r.refund(ctx, seen)
	if err != nil {
		return phases.Result{}, err
	}
	believed := payments.Refund{
		Result: payments.RefundDone, Given: payments.Given{ID: refund, Status: payments.GivenSucceeded, Amount: paid.Amount},
		Detail: "unverified: " + reason,
	}
	return r.Engine.ResolveResult(ctx, seen, by, "refunded "+refund+", unverified: "+reason, believed)
}

// ResolveNotRefundedUnverified ends a parked key of a refund as not refunded,
// without asking Stripe. Its parameters are those of ResolveRefundedUnverified.
func (r Resolver) ResolveNotRefundedUnverified(ctx context.Context, seen phases.Record, by, reason string) (phases.Result, error) {
	if _, _, err := r.refund(ctx, seen); err != nil {
		return phases.Result{}, err
	}
	return r.Engine.Resolve(ctx, seen, by, "not refunded, unverified: "+reason, notRefunded()[seen.Flow])
}

// refund returns what a parked key of a refund has frozen, and the fare. It
// refuses a key whose refund is on its ride already.
func (r Resolver) refund(ctx context.Context, seen phases.Record) (payments.RefundForm, payments.Paid, error) {
	if err := r.resolvable(seen, cancelFlow, lateFlow); err != nil {
		return "", payments.Paid{}, err
	}
	if seen.RecoveryPoint != phases.Started {
		return "", payments.Paid{}, errors.New("the refund of this key is done already; retry the key instead")
	}
	ride, err := refundedID(phases.Key{Params: seen.Params})
	if err != nil {
		return "", payments.Paid{}, err
	}
	paid, err := fareOf(ctx, r.Accounts, seen.Account, ride)
	return payments.RefundForm(seen.ForeignForm), paid, err
}

// notRefunded returns, by the flow, the phase that carries out the decision that
// a parked key gave nothing back.
func notRefunded() map[string]phases.AtomicFunc {
	return map[string]phases.AtomicFunc{cancelFlow: notCanceled, lateFlow: notRefundedLate}
}

// notCanceled is that phase of a cancel. The ride is free for another key.
func notCanceled(tx *phases.Tx, key phases.Key) (phases.Outcome, error) {
	ride, err := refundedID(key)
	if err != nil {
		return phases.Outcome{}, err
	}
	freeRide(tx, key, ride, false)
	return notCancelable(key, "The refund was looked into and nothing was given back. Cancel the ride again with a new Idempotency-Key."), nil
}
