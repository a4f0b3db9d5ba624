package rides

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/payments"
)

// sweepType is the type of the events that a sweep makes up.
const sweepType = "sweep"

// sweepReach is how far back a sweep looks.
const sweepReach = 30 * 24 * time.Hour

// SweepCounts is what a sweep did.
type SweepCounts struct {
	// Intents, and Others (refunds and disputes), are what Stripe lists.
	Intents int `json:"payment_intents"`
	Others  int `json:"refunds_and_disputes"`
	// Found are those that were put into the inbox, because they may not be as
	// the database says.
	Found int `json:"found"`
	EventCounts
}

// Sweep compares what Stripe lists of the last 30 days with the database, and
// works what differs as if an event had come. It compares effects and not ids of
// events: it doesn't matter whether an event was missed, or worked in vain. What
// can't be worked yet stays in the inbox, for the completer.
func (w *EventWorker) Sweep(ctx context.Context) (SweepCounts, error) {
	run, counts := w.start(), SweepCounts{}
	now := time.Now()
	// Intents looks back 30 days from the time that it is given.
	err := w.Stripe.Intents(ctx, now, func(page []payments.Intent) error {
		counts.Intents += len(page)
		for _, intent := range page {
			differs, err := run.differs(ctx, intent)
			if err != nil {
				return err
			}
			if differs {
				counts.Found++
				err = run.inbox.make(ctx, subject{payments.ObjectIntent, intent.ID}, w.Stripe.Live())
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return counts, fmt.Errorf("reading Stripe's payment intents: %w", err)
	}
	err = w.Stripe.RefundsAndDisputes(ctx, now.Add(-sweepReach), func(kind payments.ObjectKind, id string) error {
		counts.Others++
		counts.Found++
		return run.inbox.make(ctx, subject{kind, id}, w.Stripe.Live())
	})
	if err != nil {
		return counts, fmt.Errorf("reading Stripe's refunds and disputes: %w", err)
	}
	counts.EventCounts, err = run.once(ctx)
	return counts, err
}

// differs reports whether a payment intent may not be as the database says. The
// worker, which reads it once more, decides.
func (w *eventRun) differs(ctx context.Context, i payments.Intent) (bool, error) {
	if i.Account == "" || i.Operation == "" {
		return false, nil
	}
	ride, _, err := w.readFacts(ctx, i)
	switch {
	case errors.Is(err, errNotOurs):
		return false, nil
	case errors.Is(err, pgx.ErrNoRows):
		return i.Succeeded && !i.RefundedInFull, nil
	case err != nil:
		return false, err
	case ride.status == StatusPending:
		return i.Succeeded || !i.Open, nil // its key may be parked
	case ride.status == StatusDeclined:
		return i.Open || i.Succeeded && !i.RefundedInFull, nil
	default:
		return i.Succeeded && (!ride.paidBy(i) || ride.intent != i.ID), nil
	}
}

// make puts an event of our own into the inbox.
func (i inbox) make(ctx context.Context, s subject, live bool) error {
	ctx, cancel := context.WithTimeout(ctx, inboxTimeout)
	defer cancel()
	_, err := i.pool.Exec(ctx, `
		INSERT INTO stripe_events (account_id, id, type, object, object_id, livemode)
		VALUES ('', $1, $2, $3, $4, $5)`,
		"swp_"+uuid.Must(uuid.NewV7()).String(), sweepType, string(s.object), s.id, live)
	if err != nil {
		return fmt.Errorf("putting %s into the inbox: %w", s.id, err)
	}
	return nil
}

// A StoredEvent is an event in the inbox, as an operator sees it.
type StoredEvent struct {
	ID         string     `json:"id"`
	Type       string     `json:"type"`
	ObjectID   string     `json:"object_id"`
	CreatedAt  *time.Time `json:"created_at"`
	ReceivedAt time.Time  `json:"received_at"`
	Deliveries int        `json:"deliveries"`
	Attempts   int        `json:"attempts"`
	RunAfter   time.Time  `json:"run_after"`
	LastError  *string    `json:"last_error"`
	Outcome    *string    `json:"outcome"`
	Account    *string    `json:"account_id"`
	Ride       *string    `json:"ride_id"`
	WorkedAt   *time.Time `json:"worked_at"`
}

// Events returns the events in the inbox, the newest first, or only those that
// wait, in the order in which they are due.
func (w *EventWorker) Events(ctx context.Context, waiting bool, limit int) ([]StoredEvent, error) {
	ctx, cancel := context.WithTimeout(ctx, inboxTimeout)
	defer cancel()
	which, order := ``, `received_at DESC`
	if waiting { // in the other order, this would read the events of 30 days to find a few
		which, order = ` AND worked_at IS NULL`, `run_after`
	}
	rows, err := w.Pool.Query(ctx, `
		SELECT id, type, object_id, created_at, received_at, deliveries, attempts, run_after, last_error, outcome,
		       owner_id, ride_id, worked_at
		FROM stripe_events
		WHERE account_id = ''`+which+`
		ORDER BY `+order+`
		LIMIT $1`,
		limit)
	if err != nil {
		return nil, fmt.Errorf("listing events: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[StoredEvent])
	if err != nil {
		return nil, fmt.Errorf("listing events: %w", err)
	}
	return found, nil
}
