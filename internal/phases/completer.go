package phases

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Completer brings abandoned keys to their end and reaps old ones. Any number
// of completers share a database: each key is claimed by compare-and-swap, so
// no leader is needed.
type Completer struct {
	// Engine runs the keys, through the same loop as a client's request.
	Engine *Engine
	// Poll is how long to wait when nothing was due.
	Poll time.Duration
	// Concurrency is how many keys are worked on at once.
	Concurrency int
	// Retention is how long a finished key is replayed.
	Retention time.Duration
	// Tombstones is how long a reaped key is still known as expired. After that
	// the flow's own unique constraint refuses a second life.
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
	// Lost keys were claimed by somebody else first.
	Lost int `json:"lost"`
	// Reaped keys gave up their answer.
	Reaped int `json:"reaped"`
	// Deleted tombstones were old enough to go.
	Deleted int `json:"deleted"`
}

// reapEvery is how often a daemon reaps and counts.
const reapEvery = 10 * time.Second

// Run works until ctx ends, and returns when the keys in hand are done; end
// those early with Engine.Shutdown. An error of the database is logged and
// tried again: a completer that has given up is no use.
func (c *Completer) Run(ctx context.Context) {
	work := newRound(c.Engine, c.Concurrency)
	defer work.wait()
	// Beside the loop: years of old keys, or a slow Stripe, must delay neither
	// what falls due nor what alerts look at.
	work.group.Go(func() { c.tidy(ctx) })
	for ctx.Err() == nil {
		found, err := work.dispatch(ctx, nil)
		if err != nil && ctx.Err() == nil {
			c.Engine.log.ErrorContext(ctx, "round failed: trying again", slog.Any("error", err))
		}
		if found == 0 {
			sleep(ctx, c.Poll)
		}
	}
}

// tidy counts and reaps from time to time, until ctx ends.
func (c *Completer) tidy(ctx context.Context) {
	for ctx.Err() == nil {
		err := errors.Join(c.Engine.observe(ctx), c.reap(ctx, &Counts{}))
		if err != nil && ctx.Err() == nil {
			c.Engine.log.ErrorContext(ctx, "not tidied: trying again", slog.Any("error", err))
		}
		sleep(ctx, reapEvery)
	}
}

// Once does one round: every key that is due when it begins is tried once, and
// every old key is reaped.
func (c *Completer) Once(ctx context.Context) (Counts, error) {
	work := newRound(c.Engine, c.Concurrency)
	work.once = true
	start, err := c.Engine.databaseTime(ctx)
	for found := 1; err == nil && found > 0 && ctx.Err() == nil; {
		// A key that fails is due again later than the start, so the round
		// ends.
		found, err = work.dispatch(ctx, &start)
	}
	counts := work.wait()
	if err != nil {
		return counts, err
	}
	return counts, c.reap(ctx, &counts)
}

// A round is the keys that one process has in hand.
type round struct {
	engine *Engine
	slots  chan struct{}
	group  sync.WaitGroup
	// once keeps a key in hand when it is done with: a list that was read
	// meanwhile still shows it, and it would count as lost to somebody else.
	once bool

	mu     sync.Mutex
	inHand map[keyID]bool
	counts Counts
}

type keyID struct{ account, key string }

func newRound(e *Engine, concurrency int) *round {
	// More at once would find the engine busy, again and again.
	concurrency = min(concurrency, e.config.MaxInFlight)
	return &round{engine: e, slots: make(chan struct{}, concurrency), inHand: map[keyID]bool{}}
}

// dispatch starts to work on the keys that are due, the oldest first, and
// returns how many those were. It waits for a slot for each. A key that takes
// long holds one slot and delays nobody else.
func (r *round) dispatch(ctx context.Context, before *time.Time) (int, error) {
	if r.engine.config.Paused {
		return 0, nil
	}
	due, err := r.engine.due(ctx, before, 4*cap(r.slots))
	if err != nil {
		return 0, err
	}
	// Several completers read the same list: a shuffle keeps them from claiming
	// in step, and the list is short enough for the oldest to come first.
	rand.Shuffle(len(due), func(i, j int) { due[i], due[j] = due[j], due[i] })
	started := 0
	for i := range due {
		if !r.take(&due[i]) {
			continue
		}
		select {
		case r.slots <- struct{}{}:
		case <-ctx.Done():
			return started, nil
		}
		started++
		r.group.Go(func() { r.work(ctx, &due[i]) })
	}
	return started, nil
}

// take notes that the key is in hand; false when it was already.
func (r *round) take(seen *row) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := keyID{seen.account, seen.key}
	if r.inHand[id] {
		return false
	}
	r.inHand[id] = true
	return true
}

func (r *round) work(ctx context.Context, seen *row) {
	defer func() { <-r.slots }()
	kind, err := r.engine.resume(ctx, seen)
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.once {
		delete(r.inHand, keyID{seen.account, seen.key})
	}
	r.count(kind, err)
}

// count counts how an attempt of the completer ended.
func (r *round) count(kind endingKind, err error) {
	label := "released"
	switch {
	case errors.Is(err, errFenced), errors.Is(err, ErrInUse):
		label = "lost"
		r.counts.Lost++
	case errors.Is(err, ErrParked), kind == endParked:
		label = "parked"
		r.counts.Parked++
	case err == nil && (kind == endFinished || kind == endBuried):
		label = "finished"
		r.counts.Finished++
	default:
		r.counts.Released++
	}
	r.engine.metrics.completed.WithLabelValues(label).Inc()
}

// wait waits until nothing is in hand.
func (r *round) wait() Counts {
	r.group.Wait()
	return r.counts
}

// resume claims a key that was seen to be due and runs it as far as it gets.
func (e *Engine) resume(ctx context.Context, seen *row) (endingKind, error) {
	leave, err := e.enter()
	if err != nil {
		return endNone, err
	}
	defer leave()
	ctx, cancel := e.detach(ctx)
	defer cancel()
	a := nextAttempt(e, e.flows[flowID{seen.flow, seen.version}], seen, nil)
	if err := a.steal(ctx, seen); err != nil {
		return endNone, err
	}
	end, err := a.run(ctx)
	switch {
	case errors.Is(err, errFenced):
		e.metrics.fenced.Inc()
		return endNone, err
	case err != nil:
		return endNone, a.fail(ctx, err)
	}
	_, _ = a.result(ctx, end) // there is nobody to answer; it is logged
	return end.kind, nil
}

// due reads keys that are unfinished, in nobody's hands and due, the longest
// due first. It locks nothing: the claim decides. Keys of flows, versions and
// realms that this process doesn't know are left to another.
func (e *Engine) due(ctx context.Context, before *time.Time, limit int) ([]row, error) {
	names, versions := make([]string, 0, len(e.flows)), make([]int, 0, len(e.flows))
	for id := range e.flows {
		names, versions = append(names, id.name), append(versions, id.version)
	}
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	rows, err := e.config.Pool.Query(ctx, `
		SELECT `+columns+`
		FROM idempotency_keys
		WHERE finished_at IS NULL AND parked_reason IS NULL
		  AND run_after <= coalesce($1::timestamptz, now()) AND (leased_until IS NULL OR leased_until <= now())
		  AND realm = $2 AND (flow, flow_version) IN (SELECT name, version FROM unnest($3::text[], $4::int[]) AS known (name, version))
		ORDER BY run_after
		LIMIT $5`,
		before, e.config.Realm, names, versions, limit)
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

func (e *Engine) databaseTime(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	var now time.Time
	if err := e.config.Pool.QueryRow(ctx, `SELECT now()`).Scan(&now); err != nil {
		return now, fmt.Errorf("asking for the time: %w", unavailable(err))
	}
	return now, nil
}

// observe sets the gauges that alerts look at, or takes them away when it can't
// count.
func (e *Engine) observe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	var unfinished, parked int
	var oldest float64
	err := e.config.Pool.QueryRow(ctx, `
		SELECT (SELECT count(*) FROM idempotency_keys WHERE finished_at IS NULL AND parked_reason IS NULL AND realm = $1),
		       (SELECT count(*) FROM idempotency_keys WHERE parked_reason IS NOT NULL AND realm = $1),
		       (SELECT coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8
		        FROM idempotency_keys WHERE finished_at IS NULL AND parked_reason IS NULL AND realm = $1)`,
		e.config.Realm,
	).Scan(&unfinished, &parked, &oldest)
	if err != nil {
		e.metrics.uncounted()
		return fmt.Errorf("counting keys: %w", unavailable(err))
	}
	e.metrics.counted(unfinished, parked, oldest)
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
