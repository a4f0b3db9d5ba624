package rides

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/web"
)

const (
	hailFlow    = "hail"
	hailVersion = 1

	pointRide   = "ride_created"
	pointCharge = "charge_created"
)

// processingPause is how long a payment that Stripe is still working on is left
// alone. Card payments settle within seconds where they don't settle at once.
const processingPause = 5 * time.Second

// hail is what POST /v1/rides does: each line is named for the recovery point
// that it reaches.
func hail(pay *payments.Stripe) phases.Flow {
	return phases.NewFlow(hailFlow, hailVersion,
		phases.Atomic(pointRide, createRide),
		phases.Foreign(pointCharge, phases.Call[payments.ChargeForm, payments.Charge]{
			Prepare: freezeCharge,   // what will be sent, fixed for ever, in the transaction before
			Do:      pay.Charge,     // no transaction in reach
			Find:    pay.FindCharge, // did an earlier attempt get through?
			Record:  recordCharge,   // in the transaction after
		}),
		phases.Atomic(phases.Finished, stageReceipt),
	)
}

// payer is what is known of an account from its authentication: who is charged,
// and with what.
type payer struct {
	customer      string
	paymentMethod string
	live          bool
}

// createRide inserts the ride and its audit record. The ride is as old as its
// key: both times are one time, so an answer can be built from the key alone. A
// ride that exists already means that the key lived before.
func createRide(tx *phases.Tx, key phases.Key) (phases.Outcome, error) {
	who, err := payerOf(tx, key)
	if err != nil {
		return phases.Outcome{}, err
	}
	ride, err := newRide(key, who.live)
	if err != nil {
		return phases.Outcome{}, err
	}
	tx.QueueOnce(`
		INSERT INTO rides (account_id, id, key, status, origin_lat, origin_lon, target_lat, target_lon,
		       fare_amount, fare_currency, callback_url, created_at)
		SELECT $1, $3, $2, 'pending', $4, $5, $6, $7, $8, $9, $10, created_at
		FROM idempotency_keys
		WHERE account_id = $1 AND key = $2`,
		key.Account, key.Key, ride.ID, ride.Origin.Lat, ride.Origin.Lon, ride.Target.Lat, ride.Target.Lon,
		ride.Fare.Amount, ride.Fare.Currency, ride.CallbackURL)
	data, err := json.Marshal(map[string]any{"key": key.Key, "request_id": key.RequestID, "fare": ride.Fare})
	if err != nil {
		return phases.Outcome{}, fmt.Errorf("encoding audit record: %w", err)
	}
	tx.Queue(`
		INSERT INTO audit_records (account_id, id, action, ride_id, data)
		VALUES ($1, $2, 'ride.created', $3, $4)`,
		key.Account, derivedID("aud_", "ride.created", key.Account, key.Key), ride.ID, string(data))
	phases.Know(tx, ride)
	return phases.Advance(), nil
}

// freezeCharge is what will be asked of Stripe. It is a pure function of the
// account, the client's key and the canonical parameters.
func freezeCharge(tx *phases.Tx, key phases.Key, foreignKey string) (payments.ChargeForm, phases.Outcome, error) {
	who, err := payerOf(tx, key)
	if err != nil {
		return "", phases.Outcome{}, err
	}
	ride, err := rideOf(tx, key)
	if err != nil {
		return "", phases.Outcome{}, err
	}
	return payments.NewChargeForm(payments.ChargeTerms{
		Amount:        ride.Fare.Amount,
		Currency:      ride.Fare.Currency,
		Customer:      who.customer,
		PaymentMethod: who.paymentMethod,
		Description:   "Ride " + ride.ID,
		RideID:        ride.ID,
		AccountID:     key.Account,
		Operation:     foreignKey,
	}), phases.Advance(), nil
}

// recordCharge puts what Stripe said into the ride.
func recordCharge(tx *phases.Tx, key phases.Key, _ payments.ChargeForm, charge payments.Charge) (phases.Outcome, error) {
	ride, err := rideOf(tx, key)
	if err != nil {
		return phases.Outcome{}, err
	}
	switch charge.Status {
	case payments.ChargeSucceeded:
		tx.Queue(`
			UPDATE rides
			SET status = 'charged', charge_id = $3, payment_intent_id = $4
			WHERE account_id = $1 AND id = $2`,
			key.Account, ride.ID, charge.ChargeID, charge.IntentID)
		ride.Status, ride.Charge = StatusCharged, &ChargeRef{ID: charge.ChargeID, PaymentIntent: charge.IntentID}
		phases.Know(tx, ride)
		return phases.Advance(), nil
	case payments.ChargeDeclined:
		decline(tx, key, ride, charge.IntentID)
		return refuse(key, declined(charge)), nil
	case payments.ChargeProcessing:
		tx.Queue(`
			UPDATE rides
			SET payment_intent_id = $3
			WHERE account_id = $1 AND id = $2`,
			key.Account, ride.ID, charge.IntentID)
		return phases.Wait(processingPause, charge.IntentID), nil
	default:
		return phases.Park(charge.Reason, charge.Detail), nil
	}
}

// stageReceipt stages the receipt and gives the answer.
func stageReceipt(tx *phases.Tx, key phases.Key) (phases.Outcome, error) {
	ride, err := rideOf(tx, key)
	if err != nil {
		return phases.Outcome{}, err
	}
	if ride.Charge == nil {
		return phases.Outcome{}, fmt.Errorf("ride %s has no charge to send a receipt for", ride.ID)
	}
	args, err := json.Marshal(map[string]any{
		"ride_id": ride.ID, "charge_id": ride.Charge.ID, "amount": ride.Fare.Amount, "currency": ride.Fare.Currency,
	})
	if err != nil {
		return phases.Outcome{}, fmt.Errorf("encoding receipt: %w", err)
	}
	tx.Queue(`
		INSERT INTO staged_jobs (account_id, id, key, kind, args)
		VALUES ($1, $2, $3, 'receipt', $4)`,
		key.Account, derivedID("job_", "receipt", key.Account, key.Key), key.Key, string(args))
	body, err := ride.Encode()
	if err != nil {
		return phases.Outcome{}, err
	}
	return phases.Finish(http.StatusCreated, map[string]string{
		"Content-Type": "application/json", "Location": ridePath(ride.ID),
	}, body), nil
}

// decline ends a ride for which no money was taken. The intent, where there is
// one, could still be confirmed by somebody with access to Stripe: its id is
// kept.
func decline(tx *phases.Tx, key phases.Key, ride Ride, intent string) {
	tx.Queue(`
		UPDATE rides
		SET status = 'declined', payment_intent_id = coalesce(nullif($3, ''), payment_intent_id)
		WHERE account_id = $1 AND id = $2 AND status = 'pending'`,
		key.Account, ride.ID, intent)
}

// notCharged is the phase that carries out a person's decision that a parked
// key was not charged. A key that had no ride yet gets one: the ride is what
// refuses a second life of the key when its tombstone has gone, and what finds
// out that this is one.
func notCharged(tx *phases.Tx, key phases.Key) (phases.Outcome, error) {
	if key.RecoveryPoint == phases.Started {
		if _, err := createRide(tx, key); err != nil {
			return phases.Outcome{}, err
		}
	}
	decline(tx, key, Ride{ID: rideID(key.Account, key.Key)}, "")
	return refuse(key, web.NewProblem(web.CodePaymentFailed)), nil
}

// declined is the answer to a request whose card was declined.
func declined(charge payments.Charge) web.Problem {
	problem := web.NewProblem(web.Code(charge.DeclineKind))
	problem.DeclineCode = charge.DeclineCode
	problem.RetryWithNewKey = charge.RetryWithNewKey
	return problem
}

// refuse finishes a key with a problem, which keeps for ever the id of the
// request that got it first.
func refuse(key phases.Key, problem web.Problem) phases.Outcome {
	problem.RequestID = key.RequestID
	return phases.Finish(problem.Status, map[string]string{"Content-Type": web.ProblemType}, problem.Encode())
}

// payerOf is the key's account: known from the request, or read by an attempt
// that has none.
func payerOf(tx *phases.Tx, key phases.Key) (payer, error) {
	if who, ok := phases.Known[payer](tx); ok {
		return who, nil
	}
	var who payer
	err := tx.QueryRow(`
		SELECT stripe_customer, payment_method, livemode
		FROM accounts
		WHERE id = $1`,
		key.Account).Scan(&who.customer, &who.paymentMethod, &who.live)
	if err != nil {
		return payer{}, fmt.Errorf("reading account: %w", err)
	}
	phases.Know(tx, who)
	return who, nil
}

// rideOf is the key's ride: known from a phase of this attempt, or read by an
// attempt that goes on for another.
func rideOf(tx *phases.Tx, key phases.Key) (Ride, error) {
	if ride, ok := phases.Known[Ride](tx); ok {
		ride.CreatedAt = key.CreatedAt.UTC()
		return ride, nil
	}
	who, err := payerOf(tx, key)
	if err != nil {
		return Ride{}, err
	}
	ride, err := scanRide(tx.QueryRow(`
		SELECT `+rideColumns+`
		FROM `+rideTables+`
		WHERE r.account_id = $1 AND r.key = $2`,
		key.Account, key.Key), who.live)
	if err != nil {
		return Ride{}, fmt.Errorf("reading ride: %w", err)
	}
	return ride, nil
}

func ridePath(id string) string { return "/v1/rides/" + id }
