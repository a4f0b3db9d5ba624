package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Callbacks shows callbacks to operators, and takes their decisions. It is safe
// for concurrent use.
type Callbacks struct {
	Pool *pgxpool.Pool
}

// A CallbackRecord is a callback as operators see it, from its first attempt
// on.
type CallbackRecord struct {
	ID      string `json:"id"` // the webhook-id: msg_…
	Account string `json:"account_id"`
	RideID  string `json:"ride_id"`
	Type    string `json:"type"`
	URL     string `json:"url"`
	// Status is pending, delivered, refused, gone or given_up.
	Status   string `json:"status"`
	Attempts int    `json:"attempts"`
	// LastStatus is what the receiver answered last; LastError why there was no
	// answer.
	LastStatus  *int       `json:"last_status"`
	LastError   *string    `json:"last_error"`
	CreatedAt   time.Time  `json:"created_at"`
	AttemptedAt *time.Time `json:"attempted_at"`
	EndedAt     *time.Time `json:"ended_at"`
}

// List returns callbacks, the newest first, at most limit of them. If failed is
// set, it returns only those that were not delivered, or whose last attempt
// failed.
func (c Callbacks) List(ctx context.Context, failed bool, limit int) ([]CallbackRecord, error) {
	rows, err := c.Pool.Query(ctx, `
		SELECT id, account_id, ride_id, type, url, status, attempts, last_status, last_error, created_at, attempted_at, ended_at
		FROM callbacks
		WHERE NOT $1 OR status <> 'delivered' AND (status <> 'pending' OR attempts > 0)
		ORDER BY created_at DESC, id
		LIMIT $2`,
		failed, limit)
	if err != nil {
		return nil, fmt.Errorf("listing callbacks: %w", err)
	}
	records, err := pgx.CollectRows(rows, pgx.RowToStructByPos[CallbackRecord])
	if err != nil {
		return nil, fmt.Errorf("listing callbacks: %w", err)
	}
	return records, nil
}

// An Endpoint is an account and a host that has failed, as operators see it.
type Endpoint struct {
	Account  string `json:"account_id"`
	Host     string `json:"host"`
	Failures int    `json:"failures"` // since the last success
	// FailingSince is when the first of them was.
	FailingSince  *time.Time `json:"failing_since"`
	PausedUntil   *time.Time `json:"paused_until"`
	SwitchedOffAt *time.Time `json:"switched_off_at"`
}

// Endpoints returns the endpoints that have failed, at most limit of them: those
// that are switched off first, then those that fail for longest.
func (c Callbacks) Endpoints(ctx context.Context, limit int) ([]Endpoint, error) {
	rows, err := c.Pool.Query(ctx, `
		SELECT account_id, host, failures, failing_since, paused_until, switched_off_at
		FROM callback_endpoints
		ORDER BY switched_off_at IS NULL, failing_since, account_id, host
		LIMIT $1`,
		limit)
	if err != nil {
		return nil, fmt.Errorf("listing endpoints: %w", err)
	}
	endpoints, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Endpoint])
	if err != nil {
		return nil, fmt.Errorf("listing endpoints: %w", err)
	}
	return endpoints, nil
}

var (
	// ErrNoCallback means that there is no such callback that could be sent
	// again.
	ErrNoCallback = errors.New("there is no such callback; one that waits for its first attempt is in jobs list")
	// ErrNoEndpoint means that no such endpoint is switched off.
	ErrNoEndpoint = errors.New("no such endpoint is switched off: see callbacks endpoints")
)

// Resend has a callback sent once more, under the same id, and leaves an audit
// record that names by. A callback that has ended is tried for three days
// again; one that waits for its next attempt gets it now. The error is
// [ErrNoCallback] if there is none.
func (c Callbacks) Resend(ctx context.Context, id, by string) error {
	var pending int64 // River's number of the job that tries it already, or 0
	err := pgx.BeginFunc(ctx, c.Pool, func(tx pgx.Tx) error {
		var account, ride, job string
		var was status
		// Citus locks rows of one account only.
		err := tx.QueryRow(ctx, `SELECT account_id FROM callbacks WHERE id = $1`, id).Scan(&account)
		if err == nil {
			err = tx.QueryRow(ctx, `
				SELECT ride_id, job_id, status
				FROM callbacks
				WHERE account_id = $1 AND id = $2
				FOR UPDATE`, account, id).Scan(&ride, &job, &was)
		}
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrNoCallback
		}
		if err == nil {
			pending, err = pendingCallback(ctx, tx, account, job)
		}
		if err != nil || was == statusPending && pending != 0 {
			return err
		}
		if err := restage(ctx, tx, account, id); err != nil {
			return err
		}
		return audit(ctx, tx, account, ride, "callback.resent", map[string]string{"callback": id, "by": by})
	})
	if err == nil && pending != 0 {
		err = Jobs(c).Retry(ctx, pending, by)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", id, err)
	}
	return nil
}

// pendingCallback returns River's number of the job that tries a callback at
// the moment, or 0. Its conditions are in FILTER, where no other index than that
// of the states fits: that of the kind, or the numbers from the last one down,
// would read what is done as well, while the callback's row is locked.
func pendingCallback(ctx context.Context, tx pgx.Tx, account, job string) (number int64, err error) {
	err = tx.QueryRow(ctx, `
		SELECT coalesce(max(id) FILTER (WHERE kind = $1 AND args @> jsonb_build_object('account_id', $2::text, 'id', $3::text)), 0)
		FROM river.river_job
		WHERE state IN (`+liveStates+`)`,
		delivery[Callback]{}.Kind(), account, job).Scan(&number)
	return number, err
}

// restage stages the job of a callback anew. What is sent is what the callback
// has recorded, so the job needs no ride.
func restage(ctx context.Context, tx pgx.Tx, account, id string) error {
	var batch pgx.Batch
	batch.Queue(`
		UPDATE callbacks
		SET status = 'pending', ended_at = NULL, retry_until = now() + $3::interval
		WHERE account_id = $1 AND id = $2`,
		account, id, keepTrying)
	batch.Queue(`
		INSERT INTO staged_jobs (account_id, id, key, kind, version, args, trace)
		SELECT account_id, job_id, key, $3, $4, jsonb_build_object('type', type, 'ride_id', ride_id, 'url', url, 'ride', 'null'), trace
		FROM callbacks
		WHERE account_id = $1 AND id = $2
		ON CONFLICT (account_id, key, kind) DO NOTHING`,
		account, id, Callback{}.kind(), Callback{}.version())
	return tx.SendBatch(ctx, &batch).Close()
}

// Enable switches on the endpoints of a host that were switched off, of one
// account or, if account is "", of all of them, and leaves audit records that
// name by. The error is [ErrNoEndpoint] if there is none.
func (c Callbacks) Enable(ctx context.Context, account, host, by string) error {
	err := pgx.BeginFunc(ctx, c.Pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			DELETE FROM callback_endpoints
			WHERE host = $1 AND ($2 = '' OR account_id = $2) AND switched_off_at IS NOT NULL
			RETURNING account_id`, host, account)
		if err != nil {
			return err
		}
		enabled, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err == nil && len(enabled) == 0 {
			err = ErrNoEndpoint
		}
		for _, account := range enabled {
			if err == nil {
				err = audit(ctx, tx, account, "", "callbacks.enabled", map[string]string{"host": host, "by": by})
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", host, err)
	}
	return nil
}
