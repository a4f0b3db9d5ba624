package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
)

// relayBatch is the most jobs that are moved in one transaction. A thousand
// jobs a second are two batches, of some milliseconds each.
const relayBatch = 500

// relayLock is the advisory lock of the relay, "relay" in ASCII. Relays of
// several processes would delete the same rows, and wait for each other.
const relayLock = 0x72656c6179

// relay moves staged jobs until none is left that this process knows, and
// returns how many it has moved. If another process relays at the moment, it
// moves none.
func (c *Client) relay(ctx context.Context) (int, error) {
	total := 0
	for ctx.Err() == nil {
		moved, err := c.relayOnce(ctx)
		total += moved
		c.metrics.relayed.Add(float64(moved))
		if err != nil {
			return total, fmt.Errorf("relaying jobs: %w", err)
		}
		if moved < relayBatch {
			break
		}
	}
	return total, nil
}

// relayOnce moves a batch of staged jobs in one transaction: what was deleted
// is inserted, so a job is moved once, and never lost. If the answer to COMMIT
// is lost, both have happened or neither.
//
// No job is unique in River, because one conflict would fail the whole batch.
func (c *Client) relayOnce(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	staged, err := c.anyStaged(ctx)
	if err != nil || !staged {
		return 0, err
	}
	moved := 0
	err = pgx.BeginFunc(ctx, c.config.Pool, func(tx pgx.Tx) error {
		var mine bool
		if err := tx.QueryRow(ctx, `SELECT pg_try_advisory_xact_lock($1)`, int64(relayLock)).Scan(&mine); err != nil || !mine {
			return err
		}
		jobs, err := c.unstage(ctx, tx)
		if err != nil || len(jobs) == 0 {
			return err
		}
		moved, err = c.river.InsertManyFastTx(ctx, tx, jobs)
		return err
	})
	if err != nil {
		return 0, err
	}
	return moved, nil
}

// anyStaged reports whether there is a job to move. While there is none, this
// query is all that a relay does. It selects a column, because Citus needs one.
func (c *Client) anyStaged(ctx context.Context) (found bool, err error) {
	names, versions := c.known()
	err = c.config.Pool.QueryRow(ctx, `
		SELECT EXISTS (
		  SELECT 1 FROM staged_jobs
		  WHERE (kind, version) IN (SELECT name, version FROM unnest($1::text[], $2::int[]) AS known (name, version)))`,
		names, versions).Scan(&found)
	return found, err
}

// unstage deletes a batch of staged jobs and returns them in River's form.
func (c *Client) unstage(ctx context.Context, tx pgx.Tx) ([]river.InsertManyParams, error) {
	names, versions := c.known()
	rows, err := tx.Query(ctx, `
		DELETE FROM staged_jobs
		WHERE (account_id, key, kind) IN (
		  SELECT account_id, key, kind
		  FROM staged_jobs
		  WHERE (kind, version) IN (SELECT name, version FROM unnest($1::text[], $2::int[]) AS known (name, version))
		  LIMIT $3)
		RETURNING account_id, id, key, kind, version, args, coalesce(trace, ''), created_at`,
		names, versions, relayBatch)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (river.InsertManyParams, error) {
		var job relayed
		err := row.Scan(&job.Account, &job.ID, &job.Key, &job.kind, &job.version, &job.Job, &job.Trace, &job.StagedAt)
		return river.InsertManyParams{Args: job, InsertOpts: &river.InsertOpts{Queue: job.kind}}, err
	})
}

// An envelope is what River's table holds of a job besides the job itself.
type envelope struct {
	Account  string    `json:"account_id"`
	ID       string    `json:"id"` // job_…
	Key      string    `json:"key"`
	StagedAt time.Time `json:"staged_at"`
	Trace    string    `json:"trace,omitempty"`
}

// relayed is a job that the relay moves: it needn't know what is in it.
type relayed struct {
	envelope
	Job json.RawMessage `json:"job"`

	kind    string
	version int
}

// Kind returns the job's kind in River.
func (r relayed) Kind() string { return riverKind(r.kind, r.version) }

func riverKind(kind string, version int) string { return fmt.Sprintf("%s/%d", kind, version) }

// keepTimes gives jobs the times at which they were staged. River would take
// the clock of this process, and a job could be due late by what that clock is
// fast.
func keepTimes(ctx context.Context, jobs []*rivertype.JobInsertParams, insert func(context.Context) ([]*rivertype.JobInsertResult, error)) ([]*rivertype.JobInsertResult, error) {
	for _, params := range jobs {
		if job, ok := params.Args.(relayed); ok {
			params.CreatedAt, params.ScheduledAt = &job.StagedAt, &job.StagedAt
		}
	}
	return insert(ctx)
}
