package crash

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/rides"
	"github.com/rocketrides/rocketrides/internal/web"
)

const (
	// rounds bounds how often those who go on try while there are faults, where
	// the script says nothing else.
	rounds = 4
	// calmRounds bounds how often they try when there are none any more: then
	// one round is enough for most, and three for all.
	calmRounds = 4
)

// perform runs a trial to its end. The error is trouble of the machinery, and
// no verdict.
func (l *lane) perform(ctx context.Context, t trial) (*run, error) {
	r, err := l.newRun(ctx, t)
	if err != nil {
		return nil, err
	}
	err = r.perform(ctx)
	for r.sleepers() > 0 { // there is trouble, and they are still asleep
		r.wakeUp()
	}
	if r.stuck {
		err = errors.Join(err, errors.New("a step never ended"))
	}
	return r, errors.Join(err, r.abandon(ctx), r.fake.Close())
}

func (r *run) perform(ctx context.Context) error {
	r.begin(r.lane.api[0], r.client(ctx, r.lane.api[0]))
	r.settle()
	if err := r.look(ctx); err != nil {
		return err
	}
	for {
		if err := r.recover(ctx, cmp.Or(r.script.rounds, rounds)); err != nil {
			return err
		}
		if r.sleepers() == 0 {
			return r.conclude(ctx)
		}
		r.wakeUp()
		if err := r.look(ctx); err != nil {
			return err
		}
	}
}

// recover lets those who go on try until the request has come to rest.
func (r *run) recover(ctx context.Context, most int) error {
	for range most {
		if r.rests() {
			return nil
		}
		if err := r.passTime(ctx); err != nil {
			return err
		}
		r.goOn(ctx, r.trial.recovery)
		if r.sleepers() > 1 {
			r.wakeUp() // while the one that took its place sleeps, too, and nobody else has finished
		}
		if err := r.look(ctx); err != nil {
			return err
		}
	}
	return nil
}

// rests tells whether those who go on can do nothing more: the request is over,
// or it was never taken and its client is gone.
func (r *run) rests() bool {
	return r.last().over() || r.trial.recovery == byCompleter && len(r.last().keys) == 0
}

// goOn is one round of those who go on.
func (r *run) goOn(ctx context.Context, recovery string) {
	api, worker := r.lane.api, r.lane.worker
	if recovery == byRetry || recovery == byBoth {
		r.begin(api[0], r.client(ctx, api[0]))
	}
	if recovery == byOther {
		r.begin(api[1], r.client(ctx, api[1]))
	}
	if recovery == byCompleter || recovery == byBoth {
		r.begin(worker, r.complete(ctx, worker))
	}
	r.settle()
}

// passTime ends leases and back-offs, and lets happen at Stripe what takes
// time.
func (r *run) passTime(ctx context.Context) error {
	if r.script.meanwhile != nil {
		if err := r.script.meanwhile(r.fake); err != nil {
			return fmt.Errorf("letting time pass at Stripe: %w", err)
		}
	}
	first := "first_sent_at"
	if r.script.windowOver {
		for _, p := range r.lane.processes() {
			p.wait() // what was sent before the window closed has arrived before
		}
		first = "first_sent_at - interval '21 hours'"
	}
	var sent bool
	err := r.lane.pool.QueryRow(ctx, `
		UPDATE idempotency_keys
		SET leased_until = CASE WHEN leased_until IS NOT NULL THEN now() - interval '1 second' END,
		    run_after = now() - interval '1 second', first_sent_at = `+first+`,
		    find_until = CASE WHEN find_until IS NOT NULL THEN now() - interval '1 second' END
		WHERE account_id = $1 AND finished_at IS NULL
		RETURNING first_sent_at IS NOT NULL`,
		r.who.AccountID).Scan(&sent)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("letting time pass: %w", err)
	}
	if r.script.windowOver && sent && r.closedAt < 0 {
		r.closedAt = len(r.charges())
	}
	return nil
}

// conclude stops the faults, lets the request come to rest, and asks everything
// that clients and people may ask then.
func (r *run) conclude(ctx context.Context) error {
	r.mu.Lock()
	r.calm = true
	r.mu.Unlock()
	for _, p := range r.lane.processes() {
		p.wait()
	}
	if err := r.rest(ctx, cmp.Or(r.script.rounds, calmRounds)); err != nil {
		return err
	}
	r.atRest = r.last()
	if r.script.later != nil {
		if err := r.script.later(r.fake); err != nil {
			return fmt.Errorf("letting time pass at Stripe: %w", err)
		}
	}
	if r.atRest.end() == pending {
		if err := r.rest(ctx, calmRounds); err != nil {
			return err
		}
	}
	if r.last().key().parked != "" {
		r.decide(ctx)
	}
	r.replay(ctx)
	return r.look(ctx)
}

// rest lets those who go on try without faults until the request is over.
func (r *run) rest(ctx context.Context, most int) error {
	for range most {
		if r.last().over() {
			return nil
		}
		if err := r.passTime(ctx); err != nil {
			return err
		}
		r.goOnCalmly(ctx)
		if err := r.look(ctx); err != nil {
			return err
		}
	}
	return nil
}

// goOnCalmly is one round of those who go on, and of nobody else: what a
// completer cannot bring to its end, no client may. A request that was never
// taken needs its client.
func (r *run) goOnCalmly(ctx context.Context) {
	recovery := r.trial.recovery
	if recovery == byCompleter || recovery == byBoth {
		if _, err := r.lane.calm.completer().Once(ctx); err != nil {
			r.note("I16", fmt.Sprintf("a round of the completer without a fault: %v", err))
		}
	}
	if recovery != byCompleter || len(r.last().keys) == 0 {
		r.client(ctx, r.lane.calm)()
	}
}

// replay asks again, with other parameters too, and as a stranger.
func (r *run) replay(ctx context.Context) {
	r.client(ctx, r.lane.calm)()
	fault := ""
	if got := r.replies[len(r.replies)-1]; !got.terminal() || !got.replayed {
		fault = fmt.Sprintf("when all was over, a client was told %d %s (a replay: %t)", got.status, got.code, got.replayed)
	}
	r.note("I9", fault)
	r.checkOthers(ctx)
	r.checkStranger(ctx)
}

// decide is a person who looks into a parked key: charged, where Stripe shows
// it, and else not.
func (r *run) decide(ctx context.Context) {
	r.checkUnderReview(ctx)
	resolver := rides.Resolver{Engine: r.lane.calm.engine, Stripe: r.lane.calm.stripe}
	found, err := phases.Keys{Pool: r.lane.pool}.Show(ctx, r.who.AccountID, idempotencyKey)
	if err != nil || len(found) != 1 {
		r.note("I16", fmt.Sprintf("%d parked keys, %v", len(found), err))
		return
	}
	_, err = resolver.ResolveNotCharged(ctx, found[0], "ann")
	if possible, ok := errors.AsType[*payments.ChargePossibleError](err); ok {
		_, err = resolver.ResolveCharged(ctx, found[0], "ann", possible.IntentID)
	}
	if err != nil {
		r.note("I16", fmt.Sprintf("a person could not resolve the key: %v", err))
	}
}

// abandon keeps a key that never came to rest out of the next trial.
func (r *run) abandon(ctx context.Context) error {
	_, err := r.lane.pool.Exec(ctx, `
		UPDATE idempotency_keys SET parked_reason = 'abandoned by its trial', lease_token = NULL
		WHERE account_id = $1 AND finished_at IS NULL AND parked_reason IS NULL`, r.who.AccountID)
	return err
}

func problemCode(body []byte) string {
	var problem web.Problem
	_ = json.Unmarshal(body, &problem) // a ride has no code
	return string(problem.Code)
}
