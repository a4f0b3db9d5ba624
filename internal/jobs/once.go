package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rocketrides/rocketrides/internal/pause"
)

// Counts is what one round did.
type Counts struct {
	// Relayed jobs were moved into River's table.
	Relayed int `json:"relayed"`
	// Delivered jobs are done.
	Delivered int `json:"delivered"`
	// Failed attempts are repeated later.
	Failed int `json:"failed"`
	// Dead jobs are all that were given up, also those of earlier rounds.
	Dead int `json:"dead"`
}

// Once does one round: it relays what is staged, works every job that is due
// when the round begins, and deletes what is old. After a crash it may have to
// wait some seconds until it may schedule jobs in place of the process that
// died.
func (c *Client) Once(ctx context.Context) (Counts, error) {
	var counts Counts
	var err error
	if counts.Relayed, err = c.relay(ctx); err != nil {
		return counts, err
	}
	start, err := c.databaseTime(ctx)
	if err != nil {
		return counts, err
	}
	if err := c.river.Start(ctx); err != nil {
		return counts, fmt.Errorf("starting River: %w", err)
	}
	err = c.awaitWorked(ctx, start)
	// Stop returns when what was begun has ended and is acknowledged.
	if stopping := c.river.Stop(context.WithoutCancel(ctx)); err == nil {
		err = stopping
	}
	counts.Delivered, counts.Failed = int(c.delivered.Load()), int(c.failed.Load())
	if err != nil {
		return counts, err
	}
	if err := errors.Join(c.deleteOldCallbacks(ctx), c.deleteOldJobs(ctx)); err != nil {
		return counts, err
	}
	now, err := c.readBacklog(ctx)
	counts.Dead = int(now.dead)
	return counts, err
}

// databaseTime returns the database's time.
func (c *Client) databaseTime(ctx context.Context) (now time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	if err := c.config.Pool.QueryRow(ctx, `SELECT now()`).Scan(&now); err != nil {
		return now, fmt.Errorf("asking for the time: %w", err)
	}
	return now, nil
}

// deleteOldJobs deletes the jobs that River would delete. River begins with that
// up to a second after its start, and a round seldom lasts so long: with rounds
// alone, its table would grow for ever.
func (c *Client) deleteOldJobs(ctx context.Context) error {
	for states, keep := range map[string]time.Duration{`'completed'`: keepEnded, deadStates: keepDead} {
		err := c.deleteOld(ctx, keep, `
			DELETE FROM river.river_job
			WHERE id IN (
			  SELECT id FROM river.river_job
			  WHERE state IN (`+states+`) AND finalized_at < now() - $1::interval
			  LIMIT $2)`)
		if err != nil {
			return fmt.Errorf("deleting old jobs: %w", err)
		}
	}
	return nil
}

// awaitWorked waits until no job is due that was due at start. A job that fails
// is due later, and a queue that somebody has paused has none. A callback that
// found no place has its turn soon, unless its receivers are slow; without
// waiting for that, a round would deliver few callbacks of an account that has
// many.
func (c *Client) awaitWorked(ctx context.Context, start time.Time) error {
	names := make([]string, 0, len(c.kinds))
	for _, k := range c.kinds {
		names = append(names, riverKind(k.name, k.version))
	}
	for {
		due, err := c.anyDue(ctx, names, start)
		if err != nil {
			return err
		}
		if !due {
			return nil
		}
		if err := pause.For(ctx, c.config.Poll); err != nil {
			return err
		}
	}
}

// anyDue reports whether a job is due as awaitWorked means it.
//
// The states come first, and the kind is an expression, so that the index of the
// states fits and that of the kind doesn't, which has all jobs that are done.
func (c *Client) anyDue(ctx context.Context, kinds []string, start time.Time) (due bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	err = c.config.Pool.QueryRow(ctx, `
		SELECT EXISTS (
		  SELECT FROM river.river_job
		  WHERE state IN (`+liveStates+`) AND kind || '' = ANY ($1)
		    AND queue NOT IN (SELECT name FROM river.river_queue WHERE paused_at IS NOT NULL) AND (
		        state IN ('available', 'retryable', 'scheduled') AND scheduled_at <= $2
		        OR state IN ('available', 'scheduled') AND scheduled_at <= now() + $5::interval AND metadata ? 'snoozes'
		           AND (errors IS NULL OR (errors[cardinality(errors)] ->> 'at')::timestamptz < $2)
		        OR state = 'running' AND (attempted_by[array_upper(attempted_by, 1)] = $3 OR attempted_at < $2 - $4::interval)))`,
		kinds, start, c.river.ID(), c.rescueAfter(), 2*minTurn).Scan(&due)
	if err != nil {
		return false, fmt.Errorf("looking for due jobs: %w", err)
	}
	return due, nil
}
