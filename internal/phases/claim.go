package phases

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// newAttempt returns an attempt at a key that doesn't exist yet.
func newAttempt(e *Engine, flow Flow, request *Request) *attempt {
	return &attempt{
		engine:  e,
		flow:    flow,
		request: request,
		entry:   entryFresh,
		token:   uuid.NewString(),
		epoch:   1,
		fused:   !e.config.Stepwise,
		known:   request.Known,
		key: Key{
			Account: request.Account, Key: request.Key, RequestID: request.RequestID, Params: request.Params,
			RecoveryPoint: Started, Attempts: 1,
		},
	}
}

// nextAttempt returns an attempt at a key that an earlier one left behind. It
// commits at every recovery point. It holds nothing before steal.
func nextAttempt(e *Engine, flow Flow, seen *row, request *Request) *attempt {
	a := &attempt{engine: e, flow: flow, request: request, entry: entryFresh, token: uuid.NewString()}
	if request != nil {
		a.known = request.Known
	}
	a.adopt(seen, false)
	return a
}

// steal claims a row that nobody holds, as it was seen. It returns errFenced
// when somebody else was faster.
func (a *attempt) steal(ctx context.Context, seen *row) error {
	doubt, start := false, time.Now()
	for try := 1; ; try++ {
		watch := startStopwatch()
		got, err := a.engine.stealOnce(ctx, a.token, seen)
		switch {
		case err == nil && got == nil && !doubt:
			return errFenced
		case err == nil && got != nil:
			a.take(got, clock{at: got.leasedUntil.Add(-a.engine.config.Lease), watch: watch})
			return nil
		case isLockTimeout(err):
			return ErrInUse
		case errors.Is(err, errUnsent):
			return err
		}
		doubt = true
		if now, readErr := a.engine.read(ctx, seen.account, seen.key); readErr == nil {
			if now != nil && deref(now.token) == a.token {
				a.take(&now.row, clock{at: now.now, watch: watch})
				return a.engine.barrier(ctx, seen.account, seen.key)
			}
			if now == nil || now.epoch != seen.epoch {
				return errFenced
			}
		}
		if time.Since(start) > doubtPatience || !pause(ctx, try) {
			return fmt.Errorf("claiming the key: %w", unavailable(err))
		}
	}
}

// take makes the attempt the holder of a row that it has just claimed.
func (a *attempt) take(got *row, c clock) {
	a.adopt(got, false)
	a.entry, a.clock = entryHeld, c
	a.engine.metrics.steals.Inc()
}
