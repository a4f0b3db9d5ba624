package rides

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
)

// inboxTimeout bounds one statement of the inbox.
const inboxTimeout = 5 * time.Second

// An inbox is the table stripe_events: events of Stripe's that were
// acknowledged, and what came of them.
type inbox struct {
	pool *pgxpool.Pool
	// unconfirmed is that of [Config].
	unconfirmed func(*pgx.Conn) bool
}

// settlingTime is how long a new event is left alone. Most are about a key that
// is just being worked, and a moment later it is at rest.
const settlingTime = time.Second

// add commits an event, and reports whether it was there already. A delivery
// that finds its event in place writes as well: only an acknowledged commit
// proves that the event is durable, on a standby too.
func (i inbox) add(ctx context.Context, event payments.Event) (again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, inboxTimeout)
	defer cancel()
	// A second run after a lost answer only counts one delivery too many.
	err = phases.Reread(ctx, func(ctx context.Context) error {
		return i.write(ctx, &again, `
			INSERT INTO stripe_events (account_id, id, type, object, object_id, livemode, created_at, run_after)
			VALUES ('', $1, $2, $3, $4, $5, $6, now() + $7 * interval '1 second')
			ON CONFLICT (account_id, id) DO UPDATE SET deliveries = stripe_events.deliveries + 1
			RETURNING deliveries > 1`,
			event.ID, event.Type, string(event.Object), event.ObjectID, event.Live, orNoTime(event.CreatedAt), settlingTime.Seconds())
	})
	if err != nil {
		return false, fmt.Errorf("storing event %s: %w", event.ID, err)
	}
	return again, nil
}

// write runs a statement that returns one row, in a commit of its own. It is an
// error if the commit isn't confirmed by a synchronous standby.
func (i inbox) write(ctx context.Context, into any, sql string, args ...any) error {
	conn, err := i.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("%w: taking a connection: %w", phases.ErrUnavailable, err)
	}
	defer conn.Release()
	if err := conn.QueryRow(ctx, sql, args...).Scan(into); err != nil {
		return err
	}
	if i.unconfirmed != nil && i.unconfirmed(conn.Conn()) {
		return fmt.Errorf("%w: the standby did not confirm the commit", phases.ErrUnavailable)
	}
	return nil
}

// orNoTime returns nil for the zero time.
func orNoTime(at time.Time) *time.Time {
	if at.IsZero() {
		return nil
	}
	return &at
}
