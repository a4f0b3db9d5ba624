package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
)

// A status says how far a callback has come, as callbacks.status.
type status string

const (
	statusPending   status = "pending"
	statusDelivered status = "delivered" // the receiver has acknowledged it
	statusRefused   status = "refused"   // it may not go where its URL leads
	statusGone      status = "gone"      // the receiver answered 410
	statusGivenUp   status = "given_up"  // its time is over, or its endpoint was switched off
)

const (
	// deleteEvery is how often callbacks and endpoints are deleted, and
	// keepCallbacks how long ago they ended, or failed, then.
	deleteEvery   = 10 * time.Minute
	keepCallbacks = 30 * 24 * time.Hour

	// deleteBatch is the most rows that one statement deletes.
	deleteBatch = 1000
)

// standing is how a callback, its endpoint and its account stand before an
// attempt.
type standing struct {
	status      status
	url         string
	body        []byte
	secrets     []string // to sign with
	at          time.Time
	switchedOff bool
	failingFor  time.Duration // since the first of the endpoint's failures in a row
	pause       time.Duration // until the endpoint takes callbacks
}

// beginCallback records the callback, unless an earlier attempt has done so,
// and returns how everything stands. What is sent is what was recorded first. A
// callback that is sent again has nothing else to send: if its record is gone,
// beginCallback returns errEnded.
func (c *Client) beginCallback(ctx context.Context, job delivery[Callback], host string) (now standing, err error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	id := callbackID(job.Account, job.Key, job.Job.Type)
	var batch pgx.Batch
	if !job.Job.isRecorded() {
		batch.Queue(`
			INSERT INTO callbacks (account_id, id, key, job_id, trace, ride_id, type, url, body, created_at, retry_until)
			VALUES ($1, $2, $3, $4, nullif($5, ''), $6, $7, $8, $9, $10, $11)
			ON CONFLICT (account_id, id) DO NOTHING`,
			job.Account, id, job.Key, job.ID, job.Trace, job.Job.RideID, job.Job.Type, job.Job.URL,
			job.Job.body(job.StagedAt), job.StagedAt, job.StagedAt.Add(keepTrying))
	}
	batch.Queue(`
		SELECT c.status, c.url, c.body, now(), e.switched_off_at IS NOT NULL,
		       coalesce(now() - e.failing_since, interval '0'),
		       greatest(e.paused_until - now(), interval '0'),
		       a.callback_secret || ARRAY(SELECT f.secret
		         FROM unnest(a.former_callback_secrets, a.former_callback_secrets_until) AS f (secret, until)
		         WHERE f.until > now() ORDER BY f.until DESC)
		FROM callbacks c
		JOIN accounts a ON a.id = c.account_id
		LEFT JOIN callback_endpoints e ON e.account_id = c.account_id AND e.host = $3
		WHERE c.account_id = $1 AND c.id = $2`,
		job.Account, id, host).QueryRow(func(row pgx.Row) error {
		return row.Scan(&now.status, &now.url, &now.body, &now.at, &now.switchedOff, &now.failingFor, &now.pause, &now.secrets)
	})
	err = c.config.Pool.SendBatch(ctx, &batch).Close()
	if job.Job.isRecorded() && errors.Is(err, pgx.ErrNoRows) {
		return standing{}, fmt.Errorf("%w: the record of the callback is gone, and with it what to send", errEnded)
	}
	if err != nil {
		return standing{}, fmt.Errorf("recording a callback: %w", err)
	}
	return now, nil
}

// endCallback records what came of an attempt, and returns what the worker of
// the job returns.
func (c *Client) endCallback(ctx context.Context, job delivery[Callback], host string, r result) error {
	// The attempt is over even if its context is.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), statementTimeout)
	defer cancel()
	var recorded status
	err := pgx.BeginFunc(ctx, c.config.Pool, func(tx pgx.Tx) (err error) {
		if recorded, err = recordAttempt(ctx, tx, job, r); err != nil {
			return err
		}
		switch r.status {
		case statusDelivered:
			return endpointWorked(ctx, tx, job.Account, host)
		case statusPending:
			return c.endpointFailed(ctx, tx, job, host, r)
		default:
			return nil
		}
	})
	switch {
	case errors.Is(err, errDelivered):
		return err
	case err != nil:
		return fmt.Errorf("recording an attempt at a callback: %w", err)
	case recorded == statusPending:
		return errors.New(r.text())
	}
	c.metrics.ended.WithLabelValues(string(recorded)).Inc()
	if recorded == statusDelivered {
		return nil
	}
	return fmt.Errorf("%w: the callback is %s: %s", errEnded, recorded, r.text())
}

// recordAttempt records an attempt in the callback, and returns the status that
// the callback has now. An attempt that comes late, after another one has ended
// the callback, changes nothing, unless it was the one that got through.
func recordAttempt(ctx context.Context, tx pgx.Tx, job delivery[Callback], r result) (recorded status, err error) {
	// Citus takes no now() in CASE.
	var now time.Time
	if err := tx.QueryRow(ctx, `SELECT now()`).Scan(&now); err != nil {
		return "", err
	}
	err = tx.QueryRow(ctx, `
		UPDATE callbacks
		SET status = CASE WHEN $3 = 'pending' AND ($4 OR retry_until < $7) THEN 'given_up' ELSE $3 END,
		    ended_at = CASE WHEN $3 <> 'pending' OR $4 OR retry_until < $7 THEN $7 END,
		    attempts = attempts + 1, attempted_at = $7, last_status = nullif($5, 0), last_error = nullif($6, '')
		WHERE account_id = $1 AND id = $2 AND (status = 'pending' OR $3 = 'delivered')
		RETURNING status`,
		job.Account, callbackID(job.Account, job.Key, job.Job.Type), r.status, job.last, r.httpStatus, r.why, now).Scan(&recorded)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", errDelivered
	}
	return recorded, err
}

// endpointWorked notes that an endpoint has acknowledged a callback.
func endpointWorked(ctx context.Context, tx pgx.Tx, account, host string) error {
	_, err := tx.Exec(ctx, `
		DELETE FROM callback_endpoints
		WHERE account_id = $1 AND host = $2 AND switched_off_at IS NULL`,
		account, host)
	return err
}

// endpointFailed notes that an endpoint has failed. If it has failed for five
// days without a success, in a run that isn't two short troubles far apart, it
// is switched off, and its account gets an e-mail.
//
// Citus demands that the expressions behind DO UPDATE are immutable. So they
// take the time from the row that would have been inserted, and subtract times
// instead of adding intervals.
func (c *Client) endpointFailed(ctx context.Context, tx pgx.Tx, job delivery[Callback], host string, r result) error {
	var since, at time.Time
	var switchedOff bool
	err := tx.QueryRow(ctx, `
		INSERT INTO callback_endpoints AS e (account_id, host, failing_since, failed_at, failures, paused_until)
		VALUES ($1, $2, now(), now(), 1, now() + nullif($3::interval, interval '0'))
		ON CONFLICT (account_id, host) DO UPDATE
		SET failing_since = coalesce(e.failing_since, excluded.failing_since), failed_at = excluded.failed_at,
		    failures = e.failures + 1, paused_until = greatest(e.paused_until, excluded.paused_until),
		    switched_off_at = CASE WHEN e.switched_off_at IS NULL
		        AND excluded.failed_at - e.failing_since >= interval '5 days'
		        AND e.failed_at - e.failing_since >= interval '12 hours' THEN excluded.failed_at ELSE e.switched_off_at END
		RETURNING failing_since, failed_at, coalesce(switched_off_at = failed_at, false)`,
		job.Account, host, r.pause).Scan(&since, &at, &switchedOff)
	if err != nil || !switchedOff {
		return err
	}
	notice := switchedOffNotice(job.Account, host, since, at, r)
	_, err = c.river.InsertTx(ctx, tx, notice, &river.InsertOpts{Queue: notice.Job.kind()})
	return err
}

// deleteOldCallbacks deletes the records of callbacks that ended long ago, and
// of endpoints that nothing was sent to since their last failure: clients name
// hosts as they like, so there would be more and more of them. What is switched
// off stays so.
//
// A callback that was sent again may be old and have ended just now, and the
// process may die before River hears of it. Without the record, the job that is
// rescued would be sent once more. created_at is compared for its index only.
func (c *Client) deleteOldCallbacks(ctx context.Context) error {
	err := c.deleteOld(ctx, keepCallbacks, `
		DELETE FROM callbacks
		WHERE (account_id, id) IN (
		  SELECT account_id, id FROM callbacks
		  WHERE created_at < now() - $1::interval AND ended_at < now() - $1::interval
		  LIMIT $2)`)
	if err == nil {
		err = c.deleteOld(ctx, keepCallbacks, `
			DELETE FROM callback_endpoints
			WHERE (account_id, host) IN (
			  SELECT account_id, host FROM callback_endpoints
			  WHERE failed_at < now() - $1::interval AND switched_off_at IS NULL
			  LIMIT $2)`)
	}
	if err != nil {
		return fmt.Errorf("deleting old callbacks: %w", err)
	}
	return nil
}

// deleteOld runs a statement that deletes rows older than keep, some at a time,
// until there is none left.
func (c *Client) deleteOld(ctx context.Context, keep time.Duration, sql string) error {
	deleteSome := func() (int64, error) {
		ctx, cancel := context.WithTimeout(ctx, statementTimeout)
		defer cancel()
		tag, err := c.config.Pool.Exec(ctx, sql, keep, deleteBatch)
		return tag.RowsAffected(), err
	}
	for {
		if deleted, err := deleteSome(); err != nil || deleted < deleteBatch {
			return err
		}
	}
}
