package phases

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/pause"
)

// A Completer brings abandoned keys to their end and reaps old ones. Any number
// of completers can share a database: each key is claimed by compare-and-swap,
// so no leader is needed.
type Completer struct {
	// Engine runs the keys, through the same loop as a client's request.
	Engine *Engine
	// Poll is how long to wait before looking again for keys that are due,
	// unless more were due than can be listed at a time.
	Poll time.Duration
	// Concurrency is the most keys that are worked on at once. No account gets
	// more of these places than are left for others; see limit.Places.
	Concurrency int
	// Retention is how long the answer of a finished key is kept.
	Retention time.Duration
	// Tombstones is how long the emptied row of a reaped key is kept. After
	// that, the flow's own unique constraint refuses the key; see Tx.QueueOnce.
	Tombstones time.Duration
}

// Counts is what one round did.
type Counts struct {
	// Finished keys got their answer.
	Finished int `json:"finished"`
	// Released keys failed again, or wait, and are due later.
	Released int `json:"released"`
	// Parked keys wait for a person.
	Parked int `json:"parked"`
	// Lost keys were claimed by another worker first.
	Lost int `json:"lost"`
	// Reaped keys were emptied.
	Reaped int `json:"reaped"`
	// Deleted tombstones were old enough.
	Deleted int `json:"deleted"`
	// Waiting keys are all that wait for a person when the round ends, also
	// those that were parked before it.
	Waiting int `json:"waiting"`
}

// tidyEvery is how often Run reaps at least, and how often it counts.
const tidyEvery = 10 * time.Second

// Run works until ctx ends, and returns when the keys that it works on are
// done; Engine.Shutdown ends those early. An error of the database is logged,
// and the completer goes on: one that has given up is no use.
func (c *Completer) Run(ctx context.Context) {
	work := newRound(c.Engine, c.Concurrency)
	defer work.wait()
	log := c.Engine.log
	// Beside the loop, and beside each other: reaping years of old keys must
	// delay neither what falls due nor what alerts look at.
	work.group.Go(func() { pause.Repeat(ctx, log, "counting keys", tidyEvery, c.Engine.countKeys) })
	work.group.Go(func() {
		pause.Repeat(ctx, log, "reaping", c.reapEvery(), func(ctx context.Context) error { return c.reap(ctx, &Counts{}) })
	})
	for ctx.Err() == nil {
		more, err := work.dispatch(ctx, nil)
		if err != nil && ctx.Err() == nil {
			log.ErrorContext(ctx, "round failed: trying again", slog.Any("error", err))
		}
		work.await(ctx, time.After(c.Poll), more)
	}
}

// reapEvery is how often Run reaps: more often than otherwise if keys are kept
// for so short that they would be late.
func (c *Completer) reapEvery() time.Duration { return min(tidyEvery, max(c.Poll, c.Retention/2)) }

// Once does one round: every key that is due when the round begins is tried
// once, and every old key is reaped.
func (c *Completer) Once(ctx context.Context) (Counts, error) {
	work := newRound(c.Engine, c.Concurrency)
	work.once = true
	start, err := c.Engine.databaseTime(ctx)
	for more := true; err == nil && more && ctx.Err() == nil; {
		// A key that fails is due again later than the start, so the round
		// ends.
		if more, err = work.dispatch(ctx, &start); more {
			work.await(ctx, time.After(c.Poll), true)
		}
	}
	work.await(ctx, nil, true)
	counts := work.wait()
	if err == nil {
		err = c.reap(ctx, &counts)
	}
	if err == nil {
		_, counts.Waiting, _, err = c.Engine.readCounts(ctx, c.Engine.config.Realm())
	}
	return counts, err
}

// due reads keys that are unfinished, not leased and due, the longest due
// first, except those of some accounts. It locks nothing: the claim decides.
// Keys of flows that are paused wait; those of flows, versions and realms that
// this process doesn't know are left to others.
func (e *Engine) due(ctx context.Context, before *time.Time, limit int, except []string) ([]row, error) {
	names, versions := make([]string, 0, len(e.flows)), make([]int, 0, len(e.flows))
	for id := range e.flows {
		if !slices.Contains(e.config.Paused, id.name) {
			names, versions = append(names, id.name), append(versions, id.version)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	rows, err := e.config.Pool.Query(ctx, `
		SELECT `+columns+`
		FROM idempotency_keys
		WHERE finished_at IS NULL AND parked_reason IS NULL
		  AND run_after <= coalesce($1::timestamptz, now()) AND (leased_until IS NULL OR leased_until <= now())
		  AND realm = $2 AND (flow, flow_version) IN (SELECT name, version FROM unnest($3::text[], $4::int[]) AS known (name, version))
		  AND account_id <> ALL ($6::text[])
		ORDER BY run_after
		LIMIT $5`,
		before, e.config.Realm(), names, versions, limit, except)
	if err != nil {
		return nil, fmt.Errorf("listing due keys: %w", unavailable(err))
	}
	due, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (row, error) {
		var found row
		return found, r.Scan(found.targets()...)
	})
	if err != nil {
		return nil, fmt.Errorf("listing due keys: %w", unavailable(err))
	}
	return due, nil
}

// databaseTime returns the database's time.
func (e *Engine) databaseTime(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	var now time.Time
	if err := e.config.Pool.QueryRow(ctx, `SELECT now()`).Scan(&now); err != nil {
		return now, fmt.Errorf("asking for the time: %w", unavailable(err))
	}
	return now, nil
}

// countKeys sets the gauges that alerts look at, or removes them if it can't
// count, or doesn't know which keys are its own.
func (e *Engine) countKeys(ctx context.Context) error {
	realm := e.config.Realm()
	if realm == "" {
		e.metrics.hideCounts()
		return nil
	}
	unfinished, parked, oldest, err := e.readCounts(ctx, realm)
	if err != nil {
		e.metrics.hideCounts()
		return err
	}
	e.metrics.showCounts(unfinished, parked, oldest)
	return nil
}

// readCounts returns how many keys of a realm are unfinished and how many wait
// for a person, and how old the oldest unfinished one is, in seconds.
func (e *Engine) readCounts(ctx context.Context, realm string) (unfinished, parked int, oldest float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	err = e.config.Pool.QueryRow(ctx, `
		SELECT (SELECT count(*) FROM idempotency_keys WHERE finished_at IS NULL AND parked_reason IS NULL AND realm = $1),
		       (SELECT count(*) FROM idempotency_keys WHERE parked_reason IS NOT NULL AND realm = $1),
		       (SELECT coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8
		        FROM idempotency_keys WHERE finished_at IS NULL AND parked_reason IS NULL AND realm = $1)`,
		realm,
	).Scan(&unfinished, &parked, &oldest)
	if err != nil {
		err = fmt.Errorf("counting keys: %w", unavailable(err))
	}
	return unfinished, parked, oldest, err
}
