package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/rocketrides/rocketrides/internal/postgres"
)

// Jobs shows jobs to operators, and takes their decisions. It is safe for
// concurrent use.
type Jobs struct {
	Pool *pgxpool.Pool
}

// A Record is a job as operators see it.
type Record struct {
	// ID is River's number of the job; 0 while it waits for the relay.
	ID      int64  `json:"id"`
	Job     string `json:"job"` // job_…
	Kind    string `json:"kind"`
	Account string `json:"account_id"`
	Key     string `json:"key"`
	// State is staged, due, running, waiting (for its next attempt) or dead.
	State    string    `json:"state"`
	Attempts int       `json:"attempts"`
	StagedAt time.Time `json:"staged_at"`
	// DueAt is when the next attempt is due. A dead job has none.
	DueAt     *time.Time `json:"due_at"`
	LastError string     `json:"last_error,omitempty"`
}

// The states of River's jobs that are not done. A statement names those that it
// looks for: by the index that begins with the state it then passes over what
// is done, which is that of a whole day. "All but completed" would read it.
const (
	// liveStates are those of jobs that will be attempted, or are just now.
	liveStates = `'available', 'pending', 'retryable', 'running', 'scheduled'`
	// deadStates are those of jobs that were given up: by their worker, or
	// after the last attempt.
	deadStates = `'cancelled', 'discarded'`
)

// List returns jobs that are not delivered, the oldest first, at most limit of
// them. If dead is set, it returns only those that were given up.
func (j Jobs) List(ctx context.Context, dead bool, limit int) ([]Record, error) {
	rows, err := j.Pool.Query(ctx, `
		SELECT 0, id, kind, account_id, key, 'staged', 0, created_at, created_at, ''
		FROM staged_jobs
		WHERE NOT $1
		UNION ALL
		SELECT id, coalesce(args ->> 'id', ''), split_part(kind, '/', 1), coalesce(args ->> 'account_id', ''), coalesce(args ->> 'key', ''),
		       CASE WHEN state IN (`+deadStates+`) THEN 'dead' WHEN state = 'running' THEN 'running'
		            WHEN scheduled_at <= now() THEN 'due' ELSE 'waiting' END,
		       attempt, created_at, CASE WHEN state NOT IN (`+deadStates+`) THEN scheduled_at END,
		       coalesce(errors[array_upper(errors, 1)] ->> 'error', '')
		FROM river.river_job
		WHERE state = ANY (CASE WHEN $1 THEN ARRAY[`+deadStates+`] ELSE ARRAY[`+deadStates+`, `+liveStates+`] END::river.river_job_state[])
		ORDER BY 8, 2
		LIMIT $2`,
		dead, limit)
	if err != nil {
		return nil, fmt.Errorf("listing jobs: %w", err)
	}
	records, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r Record, err error) {
		return r, row.Scan(&r.ID, &r.Job, &r.Kind, &r.Account, &r.Key, &r.State, &r.Attempts, &r.StagedAt, &r.DueAt, &r.LastError)
	})
	if err != nil {
		return nil, fmt.Errorf("listing jobs: %w", err)
	}
	return records, nil
}

// Dead returns River's numbers of all jobs that were given up, the oldest first.
func (j Jobs) Dead(ctx context.Context) ([]int64, error) {
	// In the order of ids, Postgres would read all jobs by their primary key.
	rows, err := j.Pool.Query(ctx, `
		SELECT id
		FROM river.river_job
		WHERE state IN (`+deadStates+`)`)
	if err != nil {
		return nil, fmt.Errorf("listing dead jobs: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("listing dead jobs: %w", err)
	}
	slices.Sort(ids)
	return ids, nil
}

// ErrNotRetried means that a job isn't one that can be tried again: it doesn't
// exist, is delivered, or is being worked on.
var ErrNotRetried = errors.New("there is no such job, or it is delivered, or it is being worked on")

// Retry makes a job due now, also a dead one, and leaves an audit record that
// names by. It returns ErrNotRetried if there is nothing to try again.
func (j Jobs) Retry(ctx context.Context, id int64, by string) error {
	client, err := river.NewClient(riverpgxv5.New(j.Pool), &river.Config{
		Schema: postgres.RiverSchema, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return fmt.Errorf("making River's client: %w", err)
	}
	err = pgx.BeginFunc(ctx, j.Pool, func(tx pgx.Tx) error {
		var account, job, kind string
		err := tx.QueryRow(ctx, `
			SELECT coalesce(args ->> 'account_id', ''), coalesce(args ->> 'id', ''), kind
			FROM river.river_job
			WHERE id = $1 AND state NOT IN ('completed', 'running')
			FOR UPDATE`, id).Scan(&account, &job, &kind)
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrNotRetried
		}
		if err != nil {
			return err
		}
		if _, err := client.JobRetryTx(ctx, tx, id); err != nil {
			return err
		}
		return audit(ctx, tx, account, "", "job.retried", map[string]string{"job": job, "kind": kind, "by": by})
	})
	if err != nil {
		return fmt.Errorf("retrying job %d: %w", id, err)
	}
	return nil
}

// audit records what an operator has decided. ride is "" if it is about none.
func audit(ctx context.Context, tx pgx.Tx, account, ride, action string, facts map[string]string) error {
	data, err := json.Marshal(facts)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO audit_records (account_id, id, action, ride_id, data)
		VALUES ($1, $2, $3, nullif($4, ''), $5)`,
		account, "aud_"+uuid.Must(uuid.NewV7()).String(), action, ride, string(data))
	return err
}
