package rides

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rocketrides/rocketrides/internal/jobs"
	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
)

// A refundFacts is what is known of the refund of a ride. It is empty if there
// is none.
type refundFacts struct {
	id, status string
	amount     int64
}

// showRefund shows in a ride what Stripe says was given back, whoever did it.
// key is that of the ride. A cancel that isn't done goes on by itself: it reads
// the refunds too, and decides.
func (w *eventRun) showRefund(ctx context.Context, ride rideFacts, key phases.Record, intent payments.Intent) (outcome, error) {
	// A declined ride shows what its late refund gave back, also of a payment
	// that nobody knew when the ride was declined.
	if ride.intent != intent.ID && ride.status != StatusDeclined {
		return outcome{word: outNothingNew}, nil // no charge of the ride's was refunded
	}
	unfinished, err := w.unfinishedRefund(ctx, ride, intent.ID)
	switch {
	case err != nil || isHeld(unfinished):
		return outcome{word: outResting, waits: true}, err
	case unfinished.Key != "":
		return w.hastenRefund(ctx, ride, unfinished)
	}
	given, missing, err := w.Stripe.RefundsOf(ctx, intent.ID, ride.paid())
	if err != nil {
		return outcome{}, err
	}
	// Once the client was told that all of the money is back, the refund that
	// failed is what counts, also if another one gave back a part.
	ended := ride.status == StatusCanceled || ride.status == StatusDeclined
	failed := ended && missing.Amount > 0
	if failed {
		given = payments.Given{ID: missing.Failed[0].ID, Status: payments.GivenFailed, Amount: missing.Amount}
	}
	seen := refundFacts{given.ID, given.Status, given.Amount}
	switch {
	case seen == ride.refund || seen.id == "":
		return outcome{word: outNothingNew}, nil
	case failed:
		return w.failRefund(ctx, ride, key.Trace, seen, missing.Failed)
	default:
		return w.changeRide(ctx, ride, "refund_shown", func(ctx context.Context, tx pgx.Tx) (pgconn.CommandTag, error) {
			return ride.setRefund(ctx, tx, seen)
		})
	}
}

// isHeld reports whether a worker is working on a key, or may be.
func isHeld(key phases.Record) bool { return key.Leased && key.ParkedReason == "" }

// unfinishedRefund returns the key under which the service itself is refunding
// a payment of the ride, if it isn't done.
func (w *eventRun) unfinishedRefund(ctx context.Context, ride rideFacts, intent string) (phases.Record, error) {
	for _, name := range []string{lateKey(intent), ride.cancelKey} {
		if name == "" {
			continue
		}
		key, err := w.findKey(ctx, ride.account, name)
		if err != nil || key.Key != "" && key.FinishedAt == nil {
			return key, err
		}
	}
	return phases.Record{}, nil
}

// hastenRefund lets a refund go on that is unfinished, if a look-up would end it
// now. Any other goes on when its key is due: a key that waits to send again would
// do so at each look at the event, in spite of its pause. The event stays until
// its key is at rest: what it tells may not be what the key ends with, and then
// the ride must show it. But a refund that is on its way may stay so for days, and
// there will be another event.
func (w *eventRun) hastenRefund(ctx context.Context, ride rideFacts, key phases.Record) (outcome, error) {
	if !w.Engine.Knows(key) {
		return outcome{word: "other_version", waits: true}, nil
	}
	sent := phases.Sent[payments.RefundForm]{Key: key.ForeignKey, Form: payments.RefundForm(key.ForeignForm), Ref: key.ForeignRef}
	found, err := w.Stripe.FindRefund(ctx, sent, ride.paid())
	ends := found.Result == payments.RefundDone || found.Result == payments.RefundRefused
	switch {
	case err != nil && !errors.Is(err, phases.ErrNothingFound):
		return outcome{}, err
	case ends && key.ParkedReason == "":
		return outcome{word: outHastened, waits: true}, w.keys().Nudge(ctx, key)
	case ends && slices.Contains(passing(), key.ParkedReason):
		return w.unpark(ctx, key, found.Given.ID)
	case found.Result == payments.RefundOpen && key.ParkedReason == "":
		return outcome{word: outNothingNew}, nil
	default:
		return untilFinished(key), nil
	}
}

// failRefund shows what is missing after refunds have failed that were done:
// after a cancel was answered with 200, or after a payment that succeeded late
// was given back. The answer that was given stays, and so does the status of the
// ride; for each refund that wasn't told of yet, the client gets a callback, and
// a person is told. Nothing is refunded once more by itself.
//
// A refund may have failed before the client was told that the money is back, and
// Stripe doesn't say when. So the newest are told of, until they are what is
// missing more than the ride shows: rather one too many than one too few.
func (w *eventRun) failRefund(
	ctx context.Context, ride rideFacts, trace string, seen refundFacts, failed []payments.Given,
) (outcome, error) {
	untold := seen.amount
	shown := slices.ContainsFunc(failed, func(refund payments.Given) bool { return refund.ID == ride.refund.id })
	if shown && ride.refund.status == payments.GivenFailed { // a declined ride may show that of another payment
		untold -= ride.refund.amount
	}
	told := false
	out, err := w.changeRide(ctx, ride, "refund_shown", func(ctx context.Context, tx pgx.Tx) (pgconn.CommandTag, error) {
		tag, err := ride.setRefund(ctx, tx, seen)
		if err == nil && tag.RowsAffected() == 1 {
			told, err = w.tellFailures(ctx, tx, ride, trace, failed, untold)
		}
		return tag, err
	})
	if told && err == nil && !out.waits {
		out.word = "refund_failed"
	}
	return out, err
}

// tellFailures announces refunds that failed, and tells a person of each, until
// they are the amount untold. Those that are on record already don't count. It
// reports whether any was new.
func (w *eventRun) tellFailures(
	ctx context.Context, tx pgx.Tx, ride rideFacts, trace string, failed []payments.Given, untold int64,
) (told bool, err error) {
	for _, refund := range failed {
		if untold <= 0 {
			break
		}
		isNew, err := ride.announceFailure(ctx, tx, trace, refund)
		if err != nil {
			return told, err
		}
		if !isNew {
			continue
		}
		told, untold = true, untold-refund.Amount
		w.metrics.failed.Inc() // before the commit: see record
		w.log.ErrorContext(ctx, "a refund has failed after it was done: a person must give the money back in another way",
			slog.String("account", ride.account), slog.String("ride", ride.id), slog.String("refund", refund.ID))
	}
	return told, nil
}

// failedKey returns the key under which the callback about a failed refund is
// staged. No client can send it, because an Idempotency-Key has only ASCII
// characters: a client's key could have a callback of its own.
func failedKey(refund string) string { return "refund_failed→" + refund }

// announceFailure records that a refund has failed, and stages the callback. It
// reports whether that is new; if not, nothing is staged again.
func (r rideFacts) announceFailure(ctx context.Context, tx pgx.Tx, trace string, refund payments.Given) (bool, error) {
	sql, args, err := auditRecordOnce(r.account, "ride.refund_failed", r.id, refund.ID, map[string]any{
		"refund": refund.ID, "amount": refund.Amount, "currency": r.fare.Currency,
	})
	if err != nil {
		return false, err
	}
	tag, err := tx.Exec(ctx, sql, args...)
	if err != nil {
		return false, fmt.Errorf("inserting audit record: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return false, nil
	}
	return true, r.stageFailure(ctx, tx, trace, refund.ID)
}

// stageFailure stages the callback about a failed refund, if the client wants
// callbacks.
func (r rideFacts) stageFailure(ctx context.Context, tx pgx.Tx, trace, refund string) error {
	ride, err := scanRide(tx.QueryRow(ctx, rideByID, r.account, r.id), r.live)
	if err != nil {
		return fmt.Errorf("reading ride: %w", err)
	}
	if ride.CallbackURL == nil {
		return nil
	}
	callback, err := newCallback(ride, "refund_failed")
	if err != nil {
		return err
	}
	key := phases.Key{Account: r.account, Key: failedKey(refund), Trace: trace}
	sql, args, err := jobs.Statement(key, callback)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, sql, args...); err != nil {
		return fmt.Errorf("staging callback: %w", err)
	}
	return nil
}

// showDispute shows in a ride whether the card's holder contests its charge.
// All disputes of the payment are read: charge.disputed stays true for ever.
func (w *eventRun) showDispute(ctx context.Context, ride rideFacts, intent payments.Intent) (outcome, error) {
	if ride.intent != intent.ID {
		return outcome{word: outNothingNew}, nil
	}
	seen, err := w.Stripe.DisputeOf(ctx, intent.ID)
	if err != nil {
		return outcome{}, err
	}
	if seen == ride.dispute {
		return outcome{word: outNothingNew}, nil
	}
	return w.changeRide(ctx, ride, "dispute_shown", func(ctx context.Context, tx pgx.Tx) (pgconn.CommandTag, error) {
		return tx.Exec(ctx, setDispute, ride.account, ride.id, ride.epoch, seen.Open, seen.Refuses)
	})
}

// setRefund writes the refund of a ride that is as it was read.
func (r rideFacts) setRefund(ctx context.Context, tx pgx.Tx, seen refundFacts) (pgconn.CommandTag, error) {
	return tx.Exec(ctx, `
		UPDATE rides
		SET refund_id = $4, refund_status = $5, refund_amount = $6, stripe_epoch = stripe_epoch + 1
		WHERE account_id = $1 AND id = $2 AND stripe_epoch = $3
		  AND refund_id IS NOT DISTINCT FROM nullif($7, '') AND refund_status IS NOT DISTINCT FROM nullif($8, '')
		  AND cancel_key IS NOT DISTINCT FROM nullif($9, '')`,
		r.account, r.id, r.epoch, seen.id, seen.status, seen.amount, r.refund.id, r.refund.status, r.cancelKey)
}

// changeRide changes a ride in one transaction, whose first statement is
// change. If that changes nothing, the ride is no longer as it was before
// Stripe was asked, so what Stripe has said may be old: the events wait and
// Stripe is asked again.
func (w *eventRun) changeRide(
	ctx context.Context, ride rideFacts, word string, change func(context.Context, pgx.Tx) (pgconn.CommandTag, error),
) (outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, inboxTimeout)
	defer cancel()
	err := pgx.BeginTxFunc(ctx, w.Pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		tag, err := change(ctx, tx)
		if err == nil && tag.RowsAffected() == 0 {
			err = errRideChanged
		}
		return err
	})
	switch {
	case errors.Is(err, errRideChanged):
		return outcome{word: outResting, waits: true}, nil
	case err != nil:
		return outcome{}, fmt.Errorf("changing ride %s: %w", ride.id, err)
	}
	return outcome{word: word}, nil
}

// errRideChanged means that a ride isn't any more as it was read.
var errRideChanged = errors.New("the ride has changed")
