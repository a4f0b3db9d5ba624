package rides

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/jobs"
	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/web"
)

const (
	cancelFlow    = "cancel"
	cancelVersion = 1

	pointRefund = "refund_created"
)

// cancel returns what POST /v1/rides/{id}/cancel does.
func cancel(pay *payments.Stripe, store accounts.Store) phases.Flow {
	return phases.NewFlow(cancelFlow, cancelVersion,
		phases.Foreign(pointRefund, phases.Call[payments.RefundForm, payments.Refund]{
			Prepare: claimRide,                         // no other key may refund from here on
			Do:      withFare(store, pay.Refund, true), // no transaction in reach
			Find:    withFare(store, pay.FindRefund, false),
			Record:  recordRefund,
		}),
		phases.Atomic(phases.Finished, endCancel),
	)
}

// refundPause is how long the completer waits before it asks again about a
// refund that Stripe or the bank is still working on.
func refundPause(attempts int) time.Duration {
	return phases.Backoff{Initial: 5 * time.Second, Max: 30 * time.Minute}.Next(attempts)
}

// A refundCall is a foreign call about a refund, besides what was frozen given
// what its payment took.
type refundCall func(context.Context, phases.Sent[payments.RefundForm], payments.Paid) (payments.Refund, error)

// withFare returns a call that reads the fare first, with which Stripe's answer
// is compared. sends means that the call sends something: if the fare can't be
// read, it certainly didn't.
func withFare(
	store accounts.Store, call refundCall, sends bool,
) func(context.Context, phases.Sent[payments.RefundForm]) (payments.Refund, error) {
	return func(ctx context.Context, sent phases.Sent[payments.RefundForm]) (payments.Refund, error) {
		if sent.Form.Check(sent.Key) != nil {
			return call(ctx, sent, payments.Paid{}) // which refuses the form; the ride that it names may be another's
		}
		terms := sent.Form.Terms()
		paid, err := fareOf(ctx, store, terms.AccountID, terms.RideID)
		if err != nil {
			class := phases.Unknown
			if sends {
				class = phases.Transient
			}
			return payments.Refund{}, &phases.CallError{Class: class, Err: err}
		}
		return call(ctx, sent, paid)
	}
}

// fareOf returns the fare of a ride.
func fareOf(ctx context.Context, store accounts.Store, account, ride string) (payments.Paid, error) {
	var paid payments.Paid
	err := phases.Rerun(ctx, func(ctx context.Context) error {
		return store.Pool.QueryRow(ctx, `
			SELECT fare_amount, fare_currency
			FROM rides
			WHERE account_id = $1 AND id = $2`,
			account, ride).Scan(&paid.Amount, &paid.Currency)
	})
	if err != nil {
		return payments.Paid{}, fmt.Errorf("reading the fare: %w", err)
	}
	return paid, nil
}

// claimRide claims the ride for the key, and returns the refund that will be
// sent. Of all keys that cancel a ride one holds it at a time, so one refund is
// on its way at a time. A key that has hailed a ride never cancels one. The
// request whose ride can't be claimed is answered here: for good if that stays
// so, and else without leaving a key.
func claimRide(tx *phases.Tx, key phases.Key, foreignKey string) (payments.RefundForm, phases.Outcome, error) {
	ride, err := refundedID(key)
	if err != nil {
		return "", phases.Outcome{}, err
	}
	var intent string
	err = tx.QueryRow(`
		UPDATE rides r
		SET cancel_key = $3
		WHERE r.account_id = $1 AND r.id = $2 AND r.status = 'charged' AND NOT r.refund_blocked
		  AND (r.cancel_key IS NULL OR r.cancel_key = $3)
		  AND NOT EXISTS (
		    SELECT FROM idempotency_keys k
		    WHERE k.account_id = $1 AND k.key = r.key AND k.finished_at IS NULL)
		  AND NOT EXISTS (
		    SELECT FROM rides h
		    WHERE h.account_id = $1 AND h.id = $4)
		RETURNING r.payment_intent_id`,
		key.Account, ride, key.Key, rideID(key.Account, key.Key)).Scan(&intent)
	if errors.Is(err, pgx.ErrNoRows) {
		outcome, err := uncancelable(tx, key, ride)
		return "", outcome, err
	}
	if err != nil {
		return "", phases.Outcome{}, fmt.Errorf("claiming ride: %w", err)
	}
	return payments.NewRefundForm(payments.RefundTerms{
		IntentID: intent, RideID: ride, AccountID: key.Account, Operation: foreignKey,
	}), phases.Advance(), nil
}

// refundedID returns the id of the ride whose charge a key gives back, by a
// cancel or late.
func refundedID(key phases.Key) (string, error) {
	var params struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal([]byte(key.Params), &params); err != nil {
		return "", fmt.Errorf("decoding stored parameters: %w", err)
	}
	return params.ID, nil
}

// uncancelable answers a request whose ride can't be claimed. A ride that the
// account doesn't have is not found.
func uncancelable(tx *phases.Tx, key phases.Key, id string) (phases.Outcome, error) {
	lived, err := hasLived(tx.QueryRow(earlierLife, earlierLifeArgs(key.Account, key.Key, id)...))
	switch {
	case err != nil:
		return phases.Outcome{}, err
	case lived:
		return phases.Outcome{}, phases.ErrKeyExpired
	}
	var status Status
	var disputed bool
	err = tx.QueryRow(`
		SELECT `+rideStatus+`, r.refund_blocked
		FROM `+rideTables+`
		WHERE r.account_id = $1 AND r.id = $2`,
		key.Account, id).Scan(&status, &disputed)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return phases.Outcome{}, web.NewProblemError(web.CodeNotFound, nil)
	case err != nil:
		return phases.Outcome{}, fmt.Errorf("reading ride: %w", err)
	case status == StatusDeclined:
		return notCancelable(key, "This ride was declined and nothing was charged, so there is nothing to give back."), nil
	case status == StatusCanceled:
		return notCancelable(key, "This ride is canceled already. Read it to see its refund."), nil
	case status == StatusPending:
		return phases.Outcome{}, notCancelableNow(2*time.Second, "This ride is not charged yet.")
	case status == StatusUnderReview:
		return phases.Outcome{}, notCancelableNow(time.Minute, "A person is looking into the payment of this ride.")
	case disputed:
		return phases.Outcome{}, notCancelableNow(time.Hour, "The card's holder contests the charge of this ride, and while that is so it can't be refunded.")
	default:
		return phases.Outcome{}, notCancelableNow(2*time.Second, "This ride is being canceled under another Idempotency-Key, or its hail has not ended yet.")
	}
}

// notCancelable finishes a key whose ride can't be canceled under it, ever.
func notCancelable(key phases.Key, why string) phases.Outcome {
	problem := web.NewProblem(web.CodeRideNotCancelable)
	problem.Detail = why
	return finishWithProblem(key, problem)
}

// notCancelableNow refuses a request whose ride may be cancelable later.
func notCancelableNow(retryAfter time.Duration, why string) *web.ProblemError {
	refusal := web.NewProblemError(web.CodeRideNotCancelable, nil)
	refusal.Problem.Detail = why + " Send the request again after the time in Retry-After; its Idempotency-Key was not used up."
	refusal.Problem.Retryable = true
	refusal.RetryAfter = web.RetryAfter(retryAfter)
	return refusal
}

// recordRefund stores what became of the refund in the ride. A ride that is
// canceled keeps the key that canceled it. One whose refund was refused is free
// for another key.
func recordRefund(tx *phases.Tx, key phases.Key, _ payments.RefundForm, refund payments.Refund) (phases.Outcome, error) {
	ride, err := refundedID(key)
	if err != nil {
		return phases.Outcome{}, err
	}
	showRefund(tx, key.Account, ride, refund.Given)
	switch refund.Result {
	case payments.RefundDone:
		tx.Queue(`
			UPDATE rides
			SET status = 'canceled'
			WHERE account_id = $1 AND id = $2`,
			key.Account, ride)
		return phases.Advance(), nil
	case payments.RefundOpen:
		return phases.Wait(refundPause(key.Attempts), refund.Own), nil
	case payments.RefundRefused:
		freeRide(tx, key, ride, refund.Disputed)
		return notCancelable(key, refusedDetail(refund)), nil
	default:
		return phases.Park(refund.Reason, refund.Detail), nil
	}
}

// showRefund stores what was given back, as the ride shows it.
func showRefund(tx *phases.Tx, account, ride string, given payments.Given) {
	if given.ID == "" {
		return
	}
	tx.Queue(`
		UPDATE rides
		SET refund_id = $3, refund_status = $4, refund_amount = $5
		WHERE account_id = $1 AND id = $2`,
		account, ride, given.ID, given.Status, given.Amount)
}

// freeRide ends the claim of a key on its ride.
func freeRide(tx *phases.Tx, key phases.Key, ride string, disputed bool) {
	tx.Queue(`
		UPDATE rides
		SET cancel_key = NULL, disputed = disputed OR $4, refund_blocked = refund_blocked OR $4,
		    stripe_epoch = stripe_epoch + 1
		WHERE account_id = $1 AND id = $2 AND cancel_key = $3`,
		key.Account, ride, key.Key, disputed)
}

// refusedDetail says why nothing was given back.
func refusedDetail(refund payments.Refund) string {
	switch {
	case refund.Disputed:
		return "The card's holder contests the charge of this ride, so it was not refunded. " +
			"Read the ride to see whether that is over, then cancel it with a new Idempotency-Key."
	case refund.Failed:
		return "A refund of this ride failed, and its money stays where it is. " +
			"It may work later: cancel the ride with a new Idempotency-Key, or ask the operator of this service."
	default:
		return "The payment processor does not refund the charge of this ride. Ask the operator of this service."
	}
}

// endCancel stages what the outside is told, and finishes the key with 200.
func endCancel(tx *phases.Tx, key phases.Key) (phases.Outcome, error) {
	ride, err := refundedRide(tx, key)
	if err != nil {
		return phases.Outcome{}, err
	}
	if err := announce(tx, key, ride, jobs.EventCanceled); err != nil {
		return phases.Outcome{}, err
	}
	return finishWithRide(ride)
}

// refundedRide reads the ride whose charge a key gives back.
func refundedRide(tx *phases.Tx, key phases.Key) (Ride, error) {
	who, err := principalOf(tx, key)
	if err != nil {
		return Ride{}, err
	}
	id, err := refundedID(key)
	if err != nil {
		return Ride{}, err
	}
	ride, err := scanRide(tx.QueryRow(rideByID, key.Account, id), who.Live)
	if err != nil {
		return Ride{}, fmt.Errorf("reading ride: %w", err)
	}
	return ride, nil
}

// finishWithRide finishes a key with 200 and a ride.
func finishWithRide(ride Ride) (phases.Outcome, error) {
	body, err := web.EncodeJSON(ride)
	if err != nil {
		return phases.Outcome{}, err
	}
	return phases.Finish(http.StatusOK, map[string]string{"Content-Type": "application/json"}, body), nil
}
