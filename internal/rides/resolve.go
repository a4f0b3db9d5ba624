package rides

import (
	"context"
	"errors"
	"fmt"

	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
)

// A Resolver ends parked keys as a person decides. What a person says about
// money is checked at Stripe before it is believed.
type Resolver struct {
	Engine *phases.Engine
	Stripe *payments.Stripe
}

// ResolveCharged ends a parked key as charged by the payment intent that a
// person names. The intent must be the one that this very key asked for, must
// have succeeded, and must be neither refunded nor disputed.
func (r Resolver) ResolveCharged(ctx context.Context, seen phases.Record, by, intent string) (phases.Result, error) {
	if err := r.resolvable(seen); err != nil {
		return phases.Result{}, err
	}
	if seen.ForeignForm == "" {
		return phases.Result{}, phases.ErrNoCall
	}
	charge, err := r.Stripe.VerifyCharged(ctx, payments.ChargeForm(seen.ForeignForm), intent)
	if err != nil {
		return phases.Result{}, fmt.Errorf("verifying %s at Stripe: %w", intent, err)
	}
	if charge.Status != payments.ChargeSucceeded {
		return phases.Result{}, fmt.Errorf("%s did not pay this ride: %s", intent, charge.Detail)
	}
	return r.Engine.ResolveResult(ctx, seen, by, "charged "+intent, charge)
}

// ResolveNotCharged ends a parked key as not charged. It lists what Stripe has
// of the key's operation first, and refuses when there is anything that charged
// the card or may yet.
func (r Resolver) ResolveNotCharged(ctx context.Context, seen phases.Record, by string) (phases.Result, error) {
	if err := r.resolvable(seen); err != nil {
		return phases.Result{}, err
	}
	if seen.RecoveryPoint != phases.Started && seen.RecoveryPoint != pointRide {
		return phases.Result{}, errors.New("this ride is charged already; retry the key instead")
	}
	if seen.ForeignForm != "" {
		// Nothing was sent before the key was made.
		if err := r.Stripe.VerifyNotCharged(ctx, payments.ChargeForm(seen.ForeignForm), seen.CreatedAt); err != nil {
			return phases.Result{}, fmt.Errorf("looking for a charge at Stripe: %w", err)
		}
	}
	return r.Engine.Resolve(ctx, seen, by, "not charged", notCharged)
}

// resolvable refuses early what the engine would refuse after Stripe was asked.
func (r Resolver) resolvable(seen phases.Record) error {
	switch {
	case seen.ParkedReason == "":
		return phases.ErrNotParked
	case seen.Leased:
		return phases.ErrStillLeased
	case seen.Flow != hailFlow:
		return fmt.Errorf("flow %s: %w", seen.Flow, phases.ErrUnknownVersion)
	}
	return nil
}
