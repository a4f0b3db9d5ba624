package phases

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/pause"
)

// reapBatch is how many keys one statement empties: few enough that it holds
// no lock for long and never overruns the statement time-out.
const reapBatch = 500

// reapRest is how long the reaper rests after a batch, as a multiple of what
// the batch took. Years of old keys then cost rides less than a tenth of their
// rate at any time, and the reaper is still faster than keys are made: see
// docs/performance.md.
const reapRest = 7

// reap empties finished keys that are older than the retention, and deletes
// tombstones that are old enough. Only a finished key is ever reaped: an
// unfinished one may stand for money that was taken, and only its row keeps a
// retry from taking it again. Keys of another realm are left to its own
// completers, which may have another retention.
func (c *Completer) reap(ctx context.Context, counts *Counts) error {
	err := c.Engine.inBatches(ctx, c.Retention, func(n int) { counts.Reaped += n; c.Engine.metrics.reaped.Add(float64(n)) }, `
		SELECT account_id, key FROM idempotency_keys
		WHERE finished_at IS NOT NULL AND reaped_at IS NULL AND finished_at < now() - $1 * interval '1 second' AND realm = $3
		ORDER BY finished_at
		LIMIT $2`, `
		UPDATE idempotency_keys
		SET reaped_at = now(), params = '', trace = NULL, foreign_key = NULL, foreign_form = NULL, foreign_ref = NULL,
		    response_status = NULL, response_headers = NULL, response_body = NULL
		WHERE account_id = $1 AND key = ANY($2) AND num_nulls(reaped_at) = 1
		  AND finished_at < now() - $3 * interval '1 second'`)
	if err != nil {
		return fmt.Errorf("reaping finished keys: %w", err)
	}
	err = c.Engine.inBatches(ctx, c.Tombstones, func(n int) { counts.Deleted += n }, `
		SELECT account_id, key FROM idempotency_keys
		WHERE reaped_at IS NOT NULL AND reaped_at < now() - $1 * interval '1 second' AND realm = $3
		ORDER BY reaped_at
		LIMIT $2`, `
		DELETE FROM idempotency_keys
		WHERE account_id = $1 AND key = ANY($2) AND coalesce(reaped_at, 'infinity') < now() - $3 * interval '1 second'`)
	if err != nil {
		return fmt.Errorf("deleting tombstones: %w", err)
	}
	return nil
}

// inBatches lists old keys with one statement and changes them with another,
// account by account, until there are no more. It tells done how many it has
// changed. The change repeats the condition: between the two anything may have
// happened. It writes it in another way, from which Postgres can't conclude
// that the index of the list would do: it finds its rows by their primary key,
// and doesn't walk what else is old.
func (e *Engine) inBatches(ctx context.Context, age time.Duration, done func(n int), list, change string) error {
	for ctx.Err() == nil {
		began := time.Now()
		byAccount, listed, err := e.listOld(ctx, list, age)
		if err != nil {
			return unavailable(err)
		}
		changed := 0
		for account, keys := range byAccount {
			n, err := e.changeOld(ctx, change, account, keys, age)
			if err != nil {
				return unavailable(err)
			}
			changed += n
			done(n)
		}
		if listed < reapBatch || changed == 0 {
			break
		}
		_ = pause.For(ctx, reapRest*time.Since(began)) // the loop looks at ctx itself
	}
	return nil
}

func (e *Engine) listOld(ctx context.Context, list string, age time.Duration) (map[string][]string, int, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	rows, err := e.config.Pool.Query(ctx, list, age.Seconds(), reapBatch, e.config.Realm())
	if err != nil {
		return nil, 0, err
	}
	byAccount := map[string][]string{}
	var account, key string
	tag, err := pgx.ForEachRow(rows, []any{&account, &key}, func() error {
		byAccount[account] = append(byAccount[account], key)
		return nil
	})
	return byAccount, int(tag.RowsAffected()), err
}

func (e *Engine) changeOld(
	ctx context.Context, change, account string, keys []string, age time.Duration,
) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	tag, err := e.config.Pool.Exec(ctx, change, account, keys, age.Seconds())
	return int(tag.RowsAffected()), err
}
