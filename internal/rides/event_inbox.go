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
	// A second run counts one delivery too many, and nothing depends on how many.
	err = phases.Rerun(ctx, func(ctx context.Context) error {
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

// A subject is an object at Stripe that events are about. All of its events
// that are due are worked together, because what they tell is read at once.
type subject struct {
	object payments.ObjectKind
	id     string
}

// A taken subject is one that this process works on.
type taken struct {
	subject

	events   []string // the ids of its events
	attempts int      // the most that one of them has had, this one included
}

// eventLease is how long a subject stays with its worker; then another takes
// it. It is longer than workTimeout, which bounds the work but for the attempt
// at a late refund: that has a context of its own, and another worker who takes
// the subject meanwhile finds its key in use.
const (
	eventLease  = time.Minute
	workTimeout = 50 * time.Second
)

// What one statement reads is bounded, however many events wait: after an
// outage there may be millions, and a statement over all of them would never
// end in time.
const (
	// oldestEvents is how many events due looks at.
	oldestEvents = 128
	// eventBatch is how many events of one subject are worked together, and how
	// many old ones are deleted at a time.
	eventBatch = 500
)

// unworked is true of an event that is to be worked. A statement that names its
// events says so in this way, and not with IS NULL: that is the predicate of the
// indexes that are as long as the backlog, so Postgres could read one of them
// instead of the primary key.
const unworked = `num_nonnulls(worked_at) = 0`

// due returns the subjects of the events that have been due the longest: of
// those that were due at a time, or are due now if that is nil.
func (i inbox) due(ctx context.Context, live bool, before *time.Time) ([]subject, error) {
	ctx, cancel := context.WithTimeout(ctx, inboxTimeout)
	defer cancel()
	rows, err := i.pool.Query(ctx, `
		SELECT DISTINCT object, object_id
		FROM (
		  SELECT object, object_id
		  FROM stripe_events
		  WHERE account_id = '' AND worked_at IS NULL AND run_after <= coalesce($2::timestamptz, now()) AND livemode = $1
		  ORDER BY run_after
		  LIMIT $3) AS oldest`,
		live, before, oldestEvents)
	if err != nil {
		return nil, fmt.Errorf("listing events that are due: %w", err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (subject, error) {
		var s subject
		return s, row.Scan(&s.object, &s.id)
	})
	if err != nil {
		return nil, fmt.Errorf("listing events that are due: %w", err)
	}
	return found, nil
}

// now returns the database's time.
func (i inbox) now(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, inboxTimeout)
	defer cancel()
	var now time.Time
	if err := i.pool.QueryRow(ctx, `SELECT now()`).Scan(&now); err != nil {
		return now, fmt.Errorf("asking for the time: %w", err)
	}
	return now, nil
}

// take takes events of a subject that are due, for eventLease: all of them, or
// as many as are worked together. It returns none if another worker was faster.
func (i inbox) take(ctx context.Context, s subject) (taken, error) {
	ctx, cancel := context.WithTimeout(ctx, inboxTimeout)
	defer cancel()
	t := taken{subject: s}
	// The order is that of one index only. By the one of the poll, this could
	// read all of the backlog.
	due, err := i.list(ctx, `
		SELECT id
		FROM stripe_events
		WHERE account_id = '' AND object_id BETWEEN $2 AND $2 AND object = $1 AND worked_at IS NULL AND run_after <= now()
		ORDER BY object_id
		LIMIT $3`,
		string(s.object), s.id, eventBatch)
	if err != nil || len(due) == 0 {
		return t, err
	}
	rows, err := i.pool.Query(ctx, `
		UPDATE stripe_events
		SET attempts = attempts + 1, run_after = now() + $2 * interval '1 second'
		WHERE account_id = '' AND id = ANY($1) AND run_after <= now() AND `+unworked+`
		RETURNING id, attempts`,
		due, eventLease.Seconds())
	if err != nil {
		return t, fmt.Errorf("taking events of %s: %w", s.id, err)
	}
	var id string
	var attempts int
	_, err = pgx.ForEachRow(rows, []any{&id, &attempts}, func() error {
		t.events, t.attempts = append(t.events, id), max(t.attempts, attempts)
		return nil
	})
	if err != nil {
		return t, fmt.Errorf("taking events of %s: %w", s.id, err)
	}
	return t, nil
}

// list returns the ids of events. What is then written names them: a write with
// a query in it could read all of the table to find them.
func (i inbox) list(ctx context.Context, sql string, args ...any) ([]string, error) {
	rows, err := i.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("listing events: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("listing events: %w", err)
	}
	return ids, nil
}

// finish notes what came of events.
func (i inbox) finish(ctx context.Context, t taken, out outcome) error {
	return i.note(ctx, t, `
		UPDATE stripe_events
		SET worked_at = now(), outcome = $2, owner_id = nullif($3, ''), ride_id = nullif($4, ''), last_error = NULL
		WHERE account_id = '' AND id = ANY($1) AND `+unworked,
		t.events, out.word, out.account, out.ride)
}

// release makes events due again after a time.
func (i inbox) release(ctx context.Context, t taken, after time.Duration, why string) error {
	return i.note(ctx, t, `
		UPDATE stripe_events
		SET run_after = now() + $2 * interval '1 second', last_error = $3
		WHERE account_id = '' AND id = ANY($1) AND `+unworked,
		t.events, after.Seconds(), why)
}

func (i inbox) note(ctx context.Context, t taken, sql string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, inboxTimeout)
	defer cancel()
	if _, err := i.pool.Exec(ctx, sql, args...); err != nil {
		return fmt.Errorf("noting what came of the events of %s: %w", t.id, err)
	}
	return nil
}

// inboxRetention is how long an event is kept that was worked. A delivery after
// that is worked once more, and changes nothing.
const inboxRetention = 30 * 24 * time.Hour

// reap deletes old events that were worked, and returns how many.
func (i inbox) reap(ctx context.Context) (int64, error) {
	var total int64
	for {
		deleted, err := i.reapBatch(ctx)
		total += deleted
		if err != nil || deleted == 0 || ctx.Err() != nil {
			return total, err
		}
	}
}

func (i inbox) reapBatch(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, inboxTimeout)
	defer cancel()
	old, err := i.list(ctx, `
		SELECT id
		FROM stripe_events
		WHERE account_id = '' AND worked_at IS NOT NULL AND received_at < now() - $1 * interval '1 second'
		ORDER BY received_at
		LIMIT $2`,
		inboxRetention.Seconds(), eventBatch)
	if err != nil || len(old) == 0 {
		return 0, err
	}
	tag, err := i.pool.Exec(ctx, `
		DELETE FROM stripe_events
		WHERE account_id = '' AND id = ANY($1) AND worked_at IS NOT NULL`,
		old)
	if err != nil {
		return 0, fmt.Errorf("deleting old events: %w", err)
	}
	return tag.RowsAffected(), nil
}
