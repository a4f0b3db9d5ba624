package rides

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/jobs"
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

// processingPause is how long the completer waits before it asks again about a
// payment that Stripe is still working on. Most card payments settle at once,
// and some others within seconds; one that doesn't may take days.
func processingPause(attempts int) time.Duration {
	return phases.Backoff{Initial: 5 * time.Second, Max: 10 * time.Minute}.Next(attempts)
}

// hail returns what POST /v1/rides does. Each phase is named for the recovery
// point that it reaches.
func hail(pay *payments.Stripe, store accounts.Store) phases.Flow {
	return phases.NewFlow(hailFlow, hailVersion,
		phases.Atomic(pointRide, createRide),
		phases.Foreign(pointCharge, phases.Call[payments.ChargeForm, payments.Charge]{
			Prepare: freezeCharge,           // what will be sent, fixed for ever, in the transaction before
			Do:      pay.Charge,             // no transaction in reach
			Find:    findCharge(pay, store), // did an earlier attempt get through?
			Record:  recordCharge,           // in the transaction after
		}),
		phases.Atomic(phases.Finished, stageReceipt),
	)
}

// createRide inserts the ride and its audit record. The record names the
// request and the ride, which has all else and is never deleted. The ride takes
// created_at from its key, so that an answer can be made from the key alone: in
// the transaction that inserts the key, both have the time of the transaction.
// If the ride exists already, the key had an earlier life and is refused.
func createRide(tx *phases.Tx, key phases.Key) (phases.Outcome, error) {
	who, err := principalOf(tx, key)
	if err != nil {
		return phases.Outcome{}, err
	}
	ride, err := newRide(key, who.Live)
	if err != nil {
		return phases.Outcome{}, err
	}
	const insert = `
		INSERT INTO rides (account_id, id, key, status, origin_lat, origin_lon, target_lat, target_lon,
		       fare_amount, fare_currency, callback_url, created_at)
		VALUES ($1, $3, $2, 'pending', $4, $5, $6, $7, $8, $9, $10, `
	sql, args := insert+`now())`, []any{
		key.Account, key.Key, ride.ID, ride.Origin.Lat, ride.Origin.Lon, ride.Target.Lat, ride.Target.Lon,
		ride.Fare.Amount, ride.Fare.Currency, ride.CallbackURL,
	}
	if !key.CreatedAt.IsZero() {
		sql, args = insert+`$11)`, append(args, key.CreatedAt)
	}
	tx.QueueOnce(sql, args...)
	data, err := json.Marshal(struct {
		RequestID string `json:"request_id"`
	}{key.RequestID})
	if err != nil {
		return phases.Outcome{}, fmt.Errorf("encoding audit record: %w", err)
	}
	tx.Queue(`
		INSERT INTO audit_records (account_id, id, action, ride_id, data)
		VALUES ($1, $2, 'ride.created', $3, $4)`,
		key.Account, phases.DerivedID("aud_", "ride.created", key.Account, key.Key), ride.ID, string(data))
	phases.Know(tx, ride)
	return phases.Advance(), nil
}

// freezeCharge returns what will be sent to Stripe. It depends on the account,
// the client's key and the canonical parameters only, so that it is the same if
// it has to be made again.
func freezeCharge(tx *phases.Tx, key phases.Key, foreignKey string) (payments.ChargeForm, phases.Outcome, error) {
	who, err := principalOf(tx, key)
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
		Customer:      who.Customer,
		PaymentMethod: who.PaymentMethod,
		Description:   "Ride " + ride.ID,
		RideID:        ride.ID,
		AccountID:     key.Account,
		Operation:     foreignKey,
	}), phases.Advance(), nil
}

// findCharge returns the Find of the charge.
func findCharge(pay *payments.Stripe, store accounts.Store) func(context.Context, phases.Sent[payments.ChargeForm]) (payments.Charge, error) {
	return func(ctx context.Context, sent phases.Sent[payments.ChargeForm]) (payments.Charge, error) {
		return pay.FindCharge(ctx, sent, store.Customers)
	}
}

// recordCharge stores the result of the charge in the ride.
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
		ride.Status, ride.Charge = StatusCharged, &Charge{ID: charge.ChargeID, PaymentIntent: charge.IntentID}
		phases.Know(tx, ride)
		return phases.Advance(), nil
	case payments.ChargeDeclined:
		return decline(tx, key, ride, charge.IntentID, declined(charge))
	case payments.ChargeProcessing:
		tx.Queue(`
			UPDATE rides
			SET payment_intent_id = $3
			WHERE account_id = $1 AND id = $2`,
			key.Account, ride.ID, charge.IntentID)
		return phases.Wait(processingPause(key.Attempts), charge.IntentID), nil
	default:
		return phases.Park(charge.Reason, charge.Detail), nil
	}
}

// stageReceipt stages the receipt and finishes the key with 201.
func stageReceipt(tx *phases.Tx, key phases.Key) (phases.Outcome, error) {
	ride, err := rideOf(tx, key)
	if err != nil {
		return phases.Outcome{}, err
	}
	if ride.Charge == nil {
		return phases.Outcome{}, fmt.Errorf("ride %s has no charge to send a receipt for", ride.ID)
	}
	if err := announce(tx, key, ride, jobs.EventCharged); err != nil {
		return phases.Outcome{}, err
	}
	body, err := web.EncodeJSON(ride)
	if err != nil {
		return phases.Outcome{}, err
	}
	return phases.Finish(http.StatusCreated, map[string]string{
		"Content-Type": "application/json", "Location": ridePath(ride.ID),
	}, body), nil
}

// decline ends a ride for which no money was taken, and finishes its key with a
// problem. The ride keeps the words of the problem, because it outlives the
// key's answer. Its payment intent, if there is one, stays with it, because
// somebody with access to Stripe could still confirm it; the completer cancels
// it.
//
// The UPDATE has no condition on the ride's status. A ride that is charged
// makes it fail on the constraint rides_sound, which says that the key's
// recovery point and the ride contradict each other; with a condition it would
// change nothing and the client would be told that nothing was charged.
func decline(tx *phases.Tx, key phases.Key, ride Ride, intent string, problem web.Problem) (phases.Outcome, error) {
	failure, err := json.Marshal(failureOf(problem))
	if err != nil {
		return phases.Outcome{}, fmt.Errorf("encoding failure: %w", err)
	}
	tx.Queue(`
		UPDATE rides
		SET status = 'declined', failure = $4, payment_intent_id = coalesce(nullif($3, ''), payment_intent_id)
		WHERE account_id = $1 AND id = $2`,
		key.Account, ride.ID, intent, string(failure))
	if intent != "" {
		tx.Queue(noteIntent, key.Account, intent, ride.ID, operationOf(key.Account, key.Key), ride.Livemode)
	}
	ride.Status, ride.Failure = StatusDeclined, failureOf(problem)
	if err := announce(tx, key, ride, jobs.EventDeclined); err != nil {
		return phases.Outcome{}, err
	}
	return finishWithProblem(key, problem), nil
}

// declined returns the answer to a request that Stripe declined.
func declined(charge payments.Charge) web.Problem {
	problem := web.NewProblem(web.Code(charge.DeclineKind))
	problem.DeclineCode = charge.DeclineCode
	switch {
	case problem.Code == web.CodePaymentFailed:
		problem.Detail = "The payment could not be made and nothing was charged, and the card is not at fault. " +
			"The payment processor may no longer know your account's customer or payment method. " +
			"Ask the operator of this service, then send the request with a new Idempotency-Key."
	case charge.RetryWithNewKey:
		problem.Detail = "The bank could not decide on this payment for the moment, and nothing was charged. " +
			"The same card may work later: send the request again in a while, with a new Idempotency-Key."
	}
	return problem
}

// finishWithProblem finishes a key with a problem, which is stored and replayed
// like any answer. A replay shows the id of the request that got it first.
func finishWithProblem(key phases.Key, problem web.Problem) phases.Outcome {
	problem.RequestID = key.RequestID
	return phases.Finish(problem.Status, map[string]string{"Content-Type": web.ProblemType}, problem.Encode())
}

// principalOf returns the account of a key. It is known from the request; an
// attempt without one reads it.
func principalOf(tx *phases.Tx, key phases.Key) (accounts.Principal, error) {
	if who, ok := phases.Known[accounts.Principal](tx); ok {
		return who, nil
	}
	who := accounts.Principal{AccountID: key.Account}
	err := tx.QueryRow(`
		SELECT stripe_customer, payment_method, livemode
		FROM accounts
		WHERE id = $1`,
		key.Account).Scan(&who.Customer, &who.PaymentMethod, &who.Live)
	if err != nil {
		return accounts.Principal{}, fmt.Errorf("reading account: %w", err)
	}
	phases.Know(tx, who)
	return who, nil
}

// rideOf returns the ride of a key. It is known if a phase of this attempt
// wrote it; an attempt that resumes reads it.
func rideOf(tx *phases.Tx, key phases.Key) (Ride, error) {
	if ride, ok := phases.Known[Ride](tx); ok {
		ride.CreatedAt = Time{key.CreatedAt}
		return ride, nil
	}
	who, err := principalOf(tx, key)
	if err != nil {
		return Ride{}, err
	}
	ride, err := scanRide(tx.QueryRow(rideByID, key.Account, rideID(key.Account, key.Key)), who.Live)
	if err != nil {
		return Ride{}, fmt.Errorf("reading ride: %w", err)
	}
	return ride, nil
}
