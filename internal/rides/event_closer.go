package rides

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/trace"
)

// An openIntent is the payment intent of a declined ride that may still be
// open. decline notes it, and closeIntent cancels it: the answer 402 says that
// no money is taken, then or later (I3).
type openIntent struct {
	account, id, ride, operation string
	attempts                     int
}

// noteIntent notes a payment intent that may be open, once.
const noteIntent = `
		INSERT INTO open_intents (account_id, intent_id, ride_id, operation, livemode)
		VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (account_id, intent_id) DO NOTHING`

// openIntent notes a payment intent that decline hasn't noted.
func (w *eventRun) openIntent(ctx context.Context, ride rideFacts, i payments.Intent) error {
	ctx, cancel := context.WithTimeout(ctx, inboxTimeout)
	defer cancel()
	_, err := w.Pool.Exec(ctx, noteIntent, ride.account, i.ID, ride.id, i.Operation, ride.live)
	if err != nil {
		return fmt.Errorf("noting an open payment intent: %w", err)
	}
	return nil
}

// openIntents is the queue of the payment intents that may be open.
func (w *eventRun) openIntents() queue[openIntent] {
	return queue[openIntent]{due: w.dueIntents, take: w.takeIntent}
}

func (w *eventRun) dueIntents(ctx context.Context, before *time.Time) ([]openIntent, error) {
	if w.Realm() == "" {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, inboxTimeout)
	defer cancel()
	rows, err := w.Pool.Query(ctx, `
		SELECT account_id, intent_id, ride_id, operation, attempts
		FROM open_intents
		WHERE run_after <= coalesce($2::timestamptz, now()) AND livemode = $1
		ORDER BY run_after
		LIMIT $3`,
		w.Stripe.Live(), before, 4*eventConcurrency)
	if err != nil {
		return nil, fmt.Errorf("listing open payment intents: %w", err)
	}
	due, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (openIntent, error) {
		var i openIntent
		return i, row.Scan(&i.account, &i.id, &i.ride, &i.operation, &i.attempts)
	})
	if err != nil {
		return nil, fmt.Errorf("listing open payment intents: %w", err)
	}
	return due, nil
}

// takeIntent takes an open intent, unless another process was faster.
func (w *eventRun) takeIntent(ctx context.Context, i openIntent) (task, error) {
	took, err := w.change(ctx, `
		UPDATE open_intents
		SET attempts = attempts + 1, run_after = now() + $4 * interval '1 second'
		WHERE account_id = $1 AND intent_id = $2 AND attempts = $3`,
		i.account, i.id, i.attempts, eventLease.Seconds())
	if err != nil || !took {
		return nil, err
	}
	return func(ctx context.Context) (bool, error) { return w.closeIntent(ctx, i) }, nil
}

// closeIntent closes an open intent. The error is one of the database.
func (w *eventRun) closeIntent(ctx context.Context, i openIntent) (done bool, err error) {
	working, cancel := context.WithTimeout(ctx, workTimeout)
	defer cancel()
	working, _ = trace.Begin(trace.With(working, slog.String("account", i.account), slog.String("ride", i.ride)))
	err = w.closeAtStripe(working, i)
	after := eventPause(ctx, i.attempts+1)
	ctx = context.WithoutCancel(working) // what came of it is noted, however late
	if err != nil {
		w.log.WarnContext(ctx, "payment intent not closed", slog.String("payment_intent", i.id),
			slog.Any("error", err), slog.Float64("again_in_seconds", after.Seconds()))
		_, err := w.change(ctx, `
			UPDATE open_intents
			SET run_after = now() + $3 * interval '1 second', last_error = $4
			WHERE account_id = $1 AND intent_id = $2`,
			i.account, i.id, after.Seconds(), phases.FitText(err.Error()))
		return false, err
	}
	return w.change(ctx, `
		DELETE FROM open_intents
		WHERE account_id = $1 AND intent_id = $2`,
		i.account, i.id)
}

// closeAtStripe cancels a payment intent. If it has succeeded after all, the
// money goes back.
func (w *eventRun) closeAtStripe(ctx context.Context, i openIntent) error {
	closed, err := w.Stripe.CloseIntent(ctx, i.id, i.operation)
	if err != nil || closed {
		return err
	}
	out, err := w.work(ctx, subject{payments.ObjectIntent, i.id})
	if err == nil && out.waits {
		err = fmt.Errorf("it has succeeded, and %s", out.word)
	}
	return err
}

// change runs one statement, and reports whether it changed a row.
func (w *eventRun) change(ctx context.Context, sql string, args ...any) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, inboxTimeout)
	defer cancel()
	tag, err := w.Pool.Exec(ctx, sql, args...)
	if err != nil {
		return false, fmt.Errorf("changing an open payment intent: %w", err)
	}
	return tag.RowsAffected() == 1, nil
}
