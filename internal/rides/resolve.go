package rides

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/web"
)

// A Resolver ends parked keys as a person decides. What a person says about
// money is checked at Stripe before it is believed.
type Resolver struct {
	Engine   *phases.Engine
	Stripe   *payments.Stripe
	Accounts accounts.Store
}

// ResolveCharged ends a parked key as charged by the payment intent that a
// person names. The intent must be the one that this key asked for, and must have
// succeeded. If it was refunded in full it must be disputed: else the key is not
// charged. The ride shows refund and dispute by the events that wait for it. seen
// is the key as the person saw it, and by is who decides, for the audit record.
func (r Resolver) ResolveCharged(ctx context.Context, seen phases.Record, by, intent string) (phases.Result, error) {
	if err := r.uncharged(seen); err != nil {
		return phases.Result{}, err
	}
	if seen.ForeignForm == "" {
		return phases.Result{}, phases.ErrNoCall
	}
	charge, err := r.Stripe.VerifyCharged(ctx, seen.ForeignKey, payments.ChargeForm(seen.ForeignForm), intent)
	if err != nil {
		return phases.Result{}, fmt.Errorf("verifying %s at Stripe: %w", intent, err)
	}
	if charge.Status != payments.ChargeSucceeded {
		return phases.Result{}, fmt.Errorf("%s did not pay for this key: %s", intent, charge.Detail)
	}
	return r.Engine.ResolveResult(ctx, seen, by, "charged "+intent, charge)
}

// ResolveNotCharged ends a parked key as not charged. It lists what Stripe has
// for the key's operation first, and refuses if anything there has charged the
// card or still may. seen is the key as the person saw it, and by is who
// decides, for the audit record.
func (r Resolver) ResolveNotCharged(ctx context.Context, seen phases.Record, by string) (phases.Result, error) {
	if err := r.uncharged(seen); err != nil {
		return phases.Result{}, err
	}
	if seen.ForeignForm != "" {
		customers, err := r.Accounts.Customers(ctx, seen.Account)
		if err != nil {
			return phases.Result{}, err
		}
		form := payments.ChargeForm(seen.ForeignForm)
		if err := r.Stripe.VerifyNotCharged(ctx, seen.ForeignKey, form, seen.CreatedAt, customers); err != nil {
			return phases.Result{}, fmt.Errorf("looking for a charge at Stripe: %w", err)
		}
	}
	return r.Engine.Resolve(ctx, seen, by, "not charged", chargeFlows()[seen.Flow].notCharged)
}

// ResolveChargedUnverified ends a parked key as charged by an intent and its
// charge, without asking Stripe. reason, which the audit record shows, says why
// Stripe can't be asked. seen is the key as the person saw it, and by is who
// decides.
func (r Resolver) ResolveChargedUnverified(ctx context.Context, seen phases.Record, by, reason, intent, charge string) (phases.Result, error) {
	if err := r.uncharged(seen); err != nil {
		return phases.Result{}, err
	}
	paid := payments.Charge{Status: payments.ChargeSucceeded, IntentID: intent, ChargeID: charge, Detail: "unverified: " + reason}
	return r.Engine.ResolveResult(ctx, seen, by, "charged "+intent+" "+charge+", unverified: "+reason, paid)
}

// ResolveNotChargedUnverified ends a parked key as not charged, without asking
// Stripe. Its parameters are those of ResolveChargedUnverified.
func (r Resolver) ResolveNotChargedUnverified(ctx context.Context, seen phases.Record, by, reason string) (phases.Result, error) {
	if err := r.uncharged(seen); err != nil {
		return phases.Result{}, err
	}
	return r.Engine.Resolve(ctx, seen, by, "not charged, unverified: "+reason, chargeFlows()[seen.Flow].notCharged)
}

// uncharged refuses a key that is behind its charge, besides those that
// resolvable refuses.
func (r Resolver) uncharged(seen phases.Record) error {
	if err := r.resolvable(seen, ChargeFlows()...); err != nil {
		return err
	}
	if seen.RecoveryPoint != phases.Started && seen.RecoveryPoint != chargeFlows()[seen.Flow].from {
		return errors.New("this key is charged already; retry the key instead")
	}
	return nil
}

// resolvable refuses a key of another flow than those that the decision is for,
// and one that the engine would refuse too, before Stripe is asked.
func (r Resolver) resolvable(seen phases.Record, flows ...string) error {
	switch {
	case seen.ParkedReason == "":
		return phases.ErrNotParked
	case seen.Calling:
		return phases.ErrStillCalling
	case !r.Engine.Knows(seen):
		return fmt.Errorf("flow %s/%d of realm %s: %w", seen.Flow, seen.Version, seen.Realm, phases.ErrUnknownVersion)
	case !slices.Contains(flows, seen.Flow):
		decisions := "--refunded or --not-refunded"
		if slices.Contains(ChargeFlows(), seen.Flow) {
			decisions = "--charged or --not-charged"
		}
		return fmt.Errorf("this is a key of the flow %s: decide with %s", seen.Flow, decisions)
	}
	return nil
}

// notCharged is the phase that carries out the decision that a parked hail was
// not charged. A key without a ride gets one first: when the key's tombstone is
// gone, only the ride refuses a second life of the key.
func notCharged(tx *phases.Tx, key phases.Key) (phases.Outcome, error) {
	if key.RecoveryPoint == phases.Started {
		if _, err := createRide(tx, key); err != nil {
			return phases.Outcome{}, err
		}
	}
	ride, err := rideOf(tx, key)
	if err != nil {
		return phases.Outcome{}, err
	}
	return decline(tx, key, ride, "", web.NewProblem(web.CodePaymentFailed))
}
