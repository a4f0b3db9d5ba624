package rides

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
)

const (
	lateFlow    = "refund_late"
	lateVersion = 1
)

// refundLate returns what gives money back that was taken for a declined ride
// after its final 402. The ride stays declined.
func refundLate(pay *payments.Stripe, store accounts.Store) phases.Flow {
	return phases.NewFlow(lateFlow, lateVersion,
		phases.Foreign(pointRefund, phases.Call[payments.RefundForm, payments.Refund]{
			Prepare: freezeLateRefund,
			Do:      withFare(store, pay.Refund, true),
			Find:    withFare(store, pay.FindRefund, false),
			Record:  recordLateRefund,
		}),
		phases.Atomic(phases.Finished, endLateRefund),
	)
}

// lateParams are the parameters of a late refund.
type lateParams struct {
	Ride   string `json:"id"`
	Intent string `json:"payment_intent"`
}

// lateKey returns the idempotency key of a late refund. No client can send it,
// because an Idempotency-Key has only ASCII characters.
func lateKey(intent string) string { return "refund_late→" + intent }

// startRefundLate gives back what a payment intent took for a declined ride. The
// caller has seen at Stripe that the intent is the ride's own and succeeded.
// However often it is called for an intent, that is refunded once; an unfinished
// refund is finished by the completer. The errors are those of Engine.Run.
func startRefundLate(
	ctx context.Context, engine *phases.Engine, flow phases.Flow, account, ride, intent string,
) (phases.Result, error) {
	params, err := json.Marshal(lateParams{Ride: ride, Intent: intent})
	if err != nil {
		return phases.Result{}, fmt.Errorf("encoding parameters: %w", err)
	}
	return engine.Run(ctx, flow, phases.Request{
		Account: account, Key: lateKey(intent), RequestID: lateKey(intent), Method: "-", Path: lateFlow,
		Params: string(params), CanonVersion: 1,
		Hash: func(version int) ([]byte, bool) {
			hash := phases.Digest(lateFlow, ride, intent)
			return hash[:], version == 1
		},
		Check: func() error { return nil },
	})
}

// lateParamsOf returns the parameters of a key.
func lateParamsOf(key phases.Key) (lateParams, error) {
	var params lateParams
	if err := json.Unmarshal([]byte(key.Params), &params); err != nil {
		return lateParams{}, fmt.Errorf("decoding stored parameters: %w", err)
	}
	return params, nil
}

// freezeLateRefund returns what will be sent. Only a ride that is declined has
// taken money by mistake.
func freezeLateRefund(tx *phases.Tx, key phases.Key, foreignKey string) (payments.RefundForm, phases.Outcome, error) {
	params, err := lateParamsOf(key)
	if err != nil {
		return "", phases.Outcome{}, err
	}
	var status Status
	err = tx.QueryRow(`
		SELECT status
		FROM rides
		WHERE account_id = $1 AND id = $2`,
		key.Account, params.Ride).Scan(&status)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return "", phases.Outcome{}, fmt.Errorf("reading ride: %w", err)
	}
	if status != StatusDeclined {
		return "", phases.Outcome{}, fmt.Errorf("ride %s is %q, and only a declined one is refunded late", params.Ride, status)
	}
	return payments.NewRefundForm(payments.RefundTerms{
		IntentID: params.Intent, RideID: params.Ride, AccountID: key.Account, Operation: foreignKey,
	}), phases.Advance(), nil
}

// recordLateRefund stores what became of the refund in the ride. If nothing was
// given back, a person decides.
func recordLateRefund(tx *phases.Tx, key phases.Key, _ payments.RefundForm, refund payments.Refund) (phases.Outcome, error) {
	ride, err := refundedID(key)
	if err != nil {
		return phases.Outcome{}, err
	}
	showRefund(tx, key.Account, ride, refund.Given)
	switch refund.Result {
	case payments.RefundDone:
		return phases.Advance(), nil
	case payments.RefundOpen:
		return phases.Wait(refundPause(key.Attempts), refund.Own), nil
	case payments.RefundRefused:
		return phases.Park(payments.ParkRefundRefused, refund.Detail), nil
	default:
		return phases.Park(refund.Reason, refund.Detail), nil
	}
}

// endLateRefund records what happened, for people, and finishes the key.
func endLateRefund(tx *phases.Tx, key phases.Key) (phases.Outcome, error) {
	ride, err := refundedRide(tx, key)
	if err != nil {
		return phases.Outcome{}, err
	}
	params, err := lateParamsOf(key)
	if err != nil {
		return phases.Outcome{}, err
	}
	sql, args, err := auditRecordOnce(key.Account, "ride.refunded_late", ride.ID, key.Key, map[string]any{
		"key": key.Key, "payment_intent": params.Intent, "refund": ride.Refund,
	})
	if err != nil {
		return phases.Outcome{}, err
	}
	tx.Queue(sql, args...)
	return finishWithRide(ride)
}

// notRefundedLate is the phase that carries out the decision that a parked late
// refund gave nothing back. No client reads its answer, and no key can cancel
// the ride.
func notRefundedLate(_ *phases.Tx, key phases.Key) (phases.Outcome, error) {
	return notCancelable(key, "What was taken for this declined ride was looked into and not given back. What becomes of the money is for a person to decide."), nil
}
