package crash

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/rides"
	"github.com/rocketrides/rocketrides/internal/web"
)

const (
	// rounds is how many rounds of recovery there are at most while there are
	// faults, unless the script says otherwise.
	rounds = 4
	// calmRounds is how many there are at most after the faults have stopped.
	// Then most trials need one round, and all need at most three.
	calmRounds = 4
)

// perform runs a trial to its end. An error is one of the harness, and not a
// violation.
func (l *lane) perform(ctx context.Context, t trial) (*run, error) {
	r, err := l.newRun(ctx, t)
	if err != nil {
		return nil, err
	}
	err = r.perform(ctx)
	for r.sleepers() > 0 { // after an error workers may still be held
		r.wakeUp()
	}
	if r.stuck {
		err = errors.Join(err, errors.New("a step never ended"))
	}
	return r, errors.Join(err, r.abandon(ctx), r.fake.Close())
}

// perform runs the request, its recovery, and what follows when the faults have
// stopped.
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
			return r.finish(ctx)
		}
		r.wakeUp()
		if err := r.look(ctx); err != nil {
			return err
		}
	}
}

// recover runs rounds of recovery until the request has come to rest.
func (r *run) recover(ctx context.Context, most int) error {
	for range most {
		if r.nothingLeft() {
			return nil
		}
		if err := r.passTime(ctx); err != nil {
			return err
		}
		r.recoverOnce(ctx, r.trial.recovery)
		if r.sleepers() > 1 {
			r.wakeUp() // the first one, while the worker that took over is held as well
		}
		if err := r.look(ctx); err != nil {
			return err
		}
	}
	return nil
}

// nothingLeft reports whether recovery can do nothing more: the request is
// over, or it left nothing and its client is gone.
func (r *run) nothingLeft() bool {
	return r.last().over() || r.trial.recovery == byCompleter && !r.last().begun()
}

// recoverOnce runs one round of recovery.
func (r *run) recoverOnce(ctx context.Context, recovery string) {
	if r.flow.event {
		r.recoverEvent(ctx, recovery)
		return
	}
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

// passTime ends leases, calls and back-offs, and lets Stripe do what takes it
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
			p.wait() // everything that was sent in the window arrives before it closes
		}
		first = "first_sent_at - interval '21 hours'"
	}
	var sent bool
	err := r.lane.pool.QueryRow(ctx, `
		UPDATE idempotency_keys
		SET leased_until = CASE WHEN leased_until IS NOT NULL THEN now() - interval '1 second' END,
		    calling_until = CASE WHEN calling_until IS NOT NULL THEN now() - interval '1 second' END,
		    run_after = now() - interval '1 second', first_sent_at = `+first+`,
		    find_until = CASE WHEN find_until IS NOT NULL THEN now() - interval '1 second' END
		WHERE account_id = $1 AND finished_at IS NULL
		RETURNING first_sent_at IS NOT NULL`,
		r.account.AccountID).Scan(&sent)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("letting time pass: %w", err)
	}
	if r.script.windowOver && sent && r.closedAt < 0 {
		r.closedAt = len(r.sends())
	}
	return r.eventsAreDue(ctx)
}

// finish stops the faults, brings the request to rest, and makes all requests
// that clients and people may make then.
func (r *run) finish(ctx context.Context) error {
	r.mu.Lock()
	r.calm = true
	r.mu.Unlock()
	for _, p := range r.lane.processes() {
		p.wait()
	}
	if err := r.bringToRest(ctx, cmp.Or(r.script.rounds, calmRounds)); err != nil {
		return err
	}
	r.atRest = r.last()
	if r.script.later != nil {
		if err := r.script.later(r.fake); err != nil {
			return fmt.Errorf("letting time pass at Stripe: %w", err)
		}
	}
	if r.atRest.end() == pending {
		if err := r.bringToRest(ctx, calmRounds); err != nil {
			return err
		}
	}
	if r.last().key().parked != "" {
		r.resolve(ctx)
	}
	r.replay(ctx)
	return r.look(ctx)
}

// bringToRest runs rounds of recovery without faults until the request is over.
func (r *run) bringToRest(ctx context.Context, most int) error {
	for range most {
		if r.last().over() {
			return nil
		}
		if err := r.passTime(ctx); err != nil {
			return err
		}
		r.recoverCalmly(ctx)
		if err := r.look(ctx); err != nil {
			return err
		}
	}
	return nil
}

// recoverCalmly runs one round of recovery without faults. If the completer
// recovers, no client may help it. A request that left no key needs its client.
func (r *run) recoverCalmly(ctx context.Context) {
	recovery := r.trial.recovery
	if recovery == byCompleter || recovery == byBoth || r.flow.event {
		if err := r.completeCalmly(ctx); err != nil {
			r.note("I16", fmt.Sprintf("a round of the completer without a fault: %v", err))
		}
	}
	if recovery != byCompleter || !r.last().begun() {
		r.client(ctx, r.lane.calm)()
	}
}

// completeCalmly runs one round of the completer that no fault strikes.
func (r *run) completeCalmly(ctx context.Context) error {
	if r.flow.event {
		if _, err := r.lane.calm.eventWorker().Once(ctx); err != nil {
			return err
		}
	}
	_, err := r.lane.calm.completer().Once(ctx)
	return err
}

// replay sends the request again, with other parameters, and from another
// account.
func (r *run) replay(ctx context.Context) {
	if r.flow.event {
		r.deliverAgain(ctx)
		return
	}
	r.client(ctx, r.lane.calm)()
	violation := ""
	if got := r.replies[len(r.replies)-1]; !r.flow.final(got) || !got.replayed {
		violation = fmt.Sprintf("at the end a client was told %d %s (replayed: %t)", got.status, got.code, got.replayed)
	}
	r.note("I9", violation)
	r.checkOthers(ctx)
	r.checkStranger(ctx)
}

// resolve does what a person does with a parked key.
func (r *run) resolve(ctx context.Context) {
	if !r.flow.event {
		r.checkUnderReview(ctx)
	}
	found, err := phases.Keys{Pool: r.lane.pool}.Show(ctx, r.account.AccountID, r.key)
	if err != nil || len(found) != 1 {
		r.note("I16", fmt.Sprintf("%d parked keys, %v", len(found), err))
		return
	}
	if err := r.flow.resolve(ctx, r, found[0]); err != nil {
		r.note("I16", fmt.Sprintf("a person could not resolve the key: %v", err))
	}
}

// resolver returns what resolves parked keys of rides.
func (r *run) resolver() rides.Resolver {
	return rides.Resolver{Engine: r.lane.calm.engine, Stripe: r.lane.calm.stripe, Accounts: accounts.Store{Pool: r.lane.pool}}
}

// resolveCharge resolves a key as charged if Stripe shows the charge, else as not
// charged.
func resolveCharge(ctx context.Context, r *run, parked phases.Record) error {
	resolver := r.resolver()
	_, err := resolver.ResolveNotCharged(ctx, parked, "ann")
	if possible, ok := errors.AsType[*payments.ChargePossibleError](err); ok {
		_, err = resolver.ResolveCharged(ctx, parked, "ann", possible.IntentID)
	}
	return err
}

// abandon parks a key that never came to rest, and takes the events away, so
// that the next trial's completer leaves them alone.
func (r *run) abandon(ctx context.Context) error {
	_, err := r.lane.pool.Exec(ctx, `
		UPDATE idempotency_keys SET parked_reason = 'abandoned by its trial', lease_token = NULL
		WHERE account_id = $1 AND finished_at IS NULL AND parked_reason IS NULL`, r.account.AccountID)
	if err == nil && r.flow.event {
		_, err = r.lane.pool.Exec(ctx, `DELETE FROM stripe_events`)
	}
	return err
}

// problemCode returns the code of a problem, or "".
func problemCode(body []byte) string {
	var problem web.Problem
	_ = json.Unmarshal(body, &problem) // a ride has no code
	return string(problem.Code)
}
