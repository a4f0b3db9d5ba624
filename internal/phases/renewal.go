package phases

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// Limits of renewing. No safety rests on them.
const (
	// looksPerLease is how often the calls are looked at while a lease lasts,
	// and triesPerLease how many renewals could follow one another in it.
	looksPerLease = 12
	triesPerLease = 6
	// maxRenewed is the most leases that one statement renews, so that it locks
	// no row for long. renewingAtOnce is how many such statements are on their
	// way at once.
	maxRenewed     = 1000
	renewingAtOnce = 2
)

// renewals keeps the leases of foreign calls that last. A lease is short, so
// that the keys of a process that died are soon taken over. Each transaction
// renews it, and most calls end long before it does: they cost an entry in a
// map. One timer looks after all calls of the process. Those whose lease is
// half over are renewed together. A call whose lease runs out all the same is
// given up: its context is canceled.
//
// No safety rests on it. A renewal names the token and the point, as the fence
// does, so it never prolongs what another worker has claimed.
type renewals struct {
	engine *Engine

	mu sync.Mutex
	// calls are those on their way, by the token of their claim.
	calls map[string]*heldCall
	// looking means that the timer runs, and renewing that statements are on
	// their way.
	looking, renewing bool
}

// A heldCall is a call that is on its way, and the claim under which it is made.
type heldCall struct {
	id           keyID
	token, point string
	clock        clock
	giveUp       context.CancelFunc
	lost         bool
}

// begin looks after the lease of an attempt that makes a call, until end.
// giveUp ends the call.
func (r *renewals) begin(a *attempt, giveUp context.CancelFunc) {
	a.held = heldCall{id: a.id(), token: a.token, point: a.key.RecoveryPoint, clock: a.clock, giveUp: giveUp}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls[a.token] = &a.held
	if !r.looking {
		r.looking = true
		time.AfterFunc(r.engine.config.Lease/looksPerLease, r.look)
	}
}

// end reports whether the attempt's call, which is over, was given up.
func (r *renewals) end(a *attempt) (lost bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.calls, a.token)
	return a.held.lost
}

// look gives up the calls whose lease has run out, renews the leases that are
// half over, and looks again, until there are no more calls.
func (r *renewals) look() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.calls) == 0 {
		r.looking = false
		return
	}
	lease := r.engine.config.Lease
	next := lease / looksPerLease
	var due []heldCall
	for token, call := range r.calls {
		switch left := call.clock.leaseLeft(); {
		case left <= 0:
			delete(r.calls, token)
			call.lost = true
			call.giveUp()
			r.engine.metrics.givenUp.Inc()
		case left <= lease/2:
			due = append(due, *call)
			next = min(next, left)
		}
	}
	time.AfterFunc(next, r.look)
	if len(due) > 0 && !r.renewing {
		r.renewing = true
		go r.renew(due)
	}
}

// renew renews leases, and first those that end first.
func (r *renewals) renew(due []heldCall) {
	slices.SortFunc(due, func(a, b heldCall) int { return cmp.Compare(a.clock.leaseLeft(), b.clock.leaseLeft()) })
	var group sync.WaitGroup
	places := make(chan struct{}, renewingAtOnce)
	for _, calls := range r.batches(due) {
		places <- struct{}{}
		group.Go(func() {
			defer func() { <-places }()
			if err := r.renewTogether(calls); err != nil {
				r.engine.log.WarnContext(r.engine.aborted, "leases of foreign calls were not renewed", slog.Int("calls", len(calls)), slog.Any("error", err))
			}
		})
	}
	group.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.renewing = false
}

// batches returns the calls whose leases one statement renews: all of them, or
// those of one account if Config.OneAccount is set.
func (r *renewals) batches(due []heldCall) [][]heldCall {
	if !r.engine.config.OneAccount {
		return slices.Collect(slices.Chunk(due, maxRenewed))
	}
	var accounts [][]heldCall
	places := map[string]int{}
	for _, call := range due {
		i, ok := places[call.id.account]
		if !ok {
			i = len(accounts)
			places[call.id.account] = i
			accounts = append(accounts, nil)
		}
		accounts[i] = append(accounts[i], call)
	}
	return accounts
}

// Both of these renew leases. A row is renewed only while its attempt holds it,
// at the point where the attempt stands; nobody holds a row that is finished or
// parked. A row that somebody has locked is left to the next time, so that it
// holds up no other. On Citus, a statement can skip locked rows of one account
// only, which it must name for both tables.
const (
	sqlRenew = renewal + `
	  JOIN unnest($1::text[], $2::text[], $3::uuid[], $4::text[]) AS held (account_id, key, token, point)
	    ON free.account_id = held.account_id` + heldRows + renewed
	sqlRenewOfOne = renewal + `
	  JOIN unnest($2::text[], $3::uuid[], $4::text[]) AS held (key, token, point)
	    ON free.account_id = $1` + heldRows + ` AND k.account_id = $1` + renewed
	renewal = `
	UPDATE idempotency_keys AS k
	SET leased_until = now() + $5 * interval '1 second'
	FROM (
	  SELECT free.account_id, free.key
	  FROM idempotency_keys AS free`
	heldRows = ` AND free.key = held.key AND free.lease_token = held.token AND free.recovery_point = held.point
	  FOR UPDATE OF free SKIP LOCKED) AS mine
	WHERE k.account_id = mine.account_id AND k.key = mine.key`
	renewed = `
	RETURNING k.lease_token::text`
)

// renewTogether renews leases with one statement. One that isn't renewed is due
// again at once, as long as it lasts.
func (r *renewals) renewTogether(calls []heldCall) error {
	lease := r.engine.config.Lease
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.engine.aborted), lease/triesPerLease)
	defer cancel()
	var accounts, keys, tokens, points []string
	for _, call := range calls {
		accounts, keys = append(accounts, call.id.account), append(keys, call.id.key)
		tokens, points = append(tokens, call.token), append(points, call.point)
	}
	sql, account := sqlRenew, any(accounts)
	if r.engine.config.OneAccount {
		sql, account = sqlRenewOfOne, accounts[0]
	}
	conn, err := r.engine.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	now := clock{watch: startStopwatch(), lease: lease}
	rows, err := conn.Query(ctx, sql, account, keys, tokens, points, lease.Seconds())
	if err != nil {
		return unavailable(err)
	}
	mine, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return unavailable(err)
	}
	r.engine.metrics.renewed.Add(float64(len(mine)))
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, token := range mine {
		if call := r.calls[token]; call != nil {
			call.clock = now
		}
	}
	return nil
}

// givenUp returns the error of a call that was given up, with what the call
// itself made of that.
func givenUp(err error) error {
	call := *classify(err)
	call.Err = fmt.Errorf("%w: %w", errLeaseLost, call.Err)
	return &call
}
