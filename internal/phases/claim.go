package phases

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// claimRow claims a row that nobody holds, as the attempt has seen it. It
// returns errFenced when another worker was faster. When the answer to the
// claim is lost, the row is read: the token shows whether the claim committed.
func (a *attempt) claimRow(ctx context.Context) error {
	doubt, start := false, time.Now()
	for try := 1; ; try++ {
		watch := startStopwatch()
		claimed, err := a.claimOnce(ctx)
		switch {
		case err == nil && claimed != nil:
			lease := a.engine.config.Lease
			a.hold(claimed, clock{at: claimed.leasedUntil.Add(-lease), watch: watch, lease: lease})
			return nil
		case err == nil && !doubt:
			return errFenced
		case isKeyLocked(err):
			return ErrInUse
		case isLockTimeout(err) && !doubt:
			return fmt.Errorf("claiming the key: %w", unavailable(err))
		case errors.Is(err, errUnsent):
			return err
		}
		doubt = true
		if found, readErr := a.engine.read(ctx, a.id()); readErr == nil {
			if found != nil && orZero(found.token) == a.token {
				a.hold(&found.row, found.clock(watch))
				return a.engine.barrier(ctx, a.key.Account, a.key.Key)
			}
			if found == nil || found.epoch != a.epoch {
				return errFenced
			}
		}
		if time.Since(start) > doubtPatience || backOff(ctx, try) != nil {
			return fmt.Errorf("claiming the key: %w", unavailable(cmp.Or(err, errNotShown)))
		}
	}
}

// claimOnce claims the row in a commit of its own. It returns nil when the row
// isn't as the attempt has seen it any more, or is leased.
func (a *attempt) claimOnce(ctx context.Context) (*row, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	e := a.engine
	if err := e.takePlace(ctx); err != nil {
		return nil, err
	}
	defer e.leavePlace()
	conn, err := e.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()

	var claimed row
	err = conn.QueryRow(ctx, claimKey, a.key.Account, a.key.Key, a.token, e.config.Lease.Seconds(),
		a.epoch, a.key.RecoveryPoint, a.othersCall, a.callTime(a.callsNext()).Seconds()).Scan(claimed.targets()...)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil //nolint:nilnil // losing a race is an ordinary answer, and no error
	}
	if err == nil && e.config.Unconfirmed(conn.Conn()) {
		err = errUnconfirmed
	}
	return &claimed, err
}

// claimed makes room for others that want to claim the key: the attempt has
// claimed it, or won't any more.
func (a *attempt) claimed() {
	if a.claiming {
		a.claiming = false
		if a.request != nil {
			a.request.visit.through()
		}
		token := ""
		if a.entry == entryHeld {
			token = a.token
		}
		a.engine.keys.claimed(a.id(), token)
	}
}

// hold makes the attempt the holder of a row that it has claimed.
func (a *attempt) hold(claimed *row, c clock) {
	a.adopt(claimed, false)
	a.entry, a.clock = entryHeld, c
	a.claimed()
	a.engine.metrics.claims.Inc()
}
