package phases

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Limits of one transaction. They are politeness towards callers and the pool:
// no safety rests on them.
const (
	// acquireTimeout bounds the wait for a connection: when the pool is
	// exhausted, refusing early beats queueing for ever.
	acquireTimeout = 2 * time.Second
	// statementTimeout bounds one read, or one try of one transaction. It lies
	// above the lock time-out (2 s) and below the lease.
	statementTimeout = 8 * time.Second
	rollbackTimeout  = time.Second
	// maxRepeats bounds how often a transaction is run again that the server
	// rolled back and asked to repeat.
	maxRepeats = 5
	// doubtPatience bounds how long a transaction whose fate is unknown is
	// looked after. A restart of Postgres takes 1 to 3 seconds.
	doubtPatience = 6 * time.Second
)

// fate is what is known of a transaction.
type fate int

const (
	committed   fate = iota
	unsent           // nothing reached the server
	failed           // the server rolled it back, and would again
	repeated         // the server rolled it back and asks for another run
	fenced           // the row isn't this worker's any more
	doubtful         // it may have committed, or may yet
	unconfirmed      // it committed here, and perhaps nowhere else
)

// fate judges a failure. An abort is proved by one thing only: a server ERROR
// for a statement before COMMIT. FATAL, a lost connection and a shutdown come
// from outside the transaction, and an ERROR for COMMIT itself proves nothing
// on Citus, where COMMIT may fail after a worker has committed.
func (f *failure) fate() fate {
	if f.unsent || pgconn.SafeToRetry(f.err) {
		return unsent
	}
	var pg *pgconn.PgError
	if !errors.As(f.err, &pg) || f.last || !provesAbort(pg) {
		if f.committing {
			return doubtful
		}
		return failed // without COMMIT on its way nothing can commit
	}
	switch {
	case f.statement.guard && pg.Code == "22012":
		return fenced
	case pg.Code == "40001", pg.Code == "40P01", pg.Code == "55P03":
		return repeated
	default:
		return failed
	}
}

// provesAbort tells whether an error says that the transaction was rolled back:
// severity ERROR, and neither a lost connection (class 08) nor a shutdown
// (57P01 to 57P05).
func provesAbort(pg *pgconn.PgError) bool {
	severity := pg.SeverityUnlocalized
	if severity == "" {
		severity = pg.Severity
	}
	return severity == "ERROR" && class(pg.Code) != "08" && !strings.HasPrefix(pg.Code, "57P0")
}

// A composer queues one transaction's statements and decides how it ends. It
// may run more than once.
type composer func(tx *Tx) (ending, error)

// commit runs one transaction until its fate is known, and returns how it left
// the key. It returns errFenced when the key is somebody else's, and then
// nothing was written.
//
// When the answer to a COMMIT was lost, the row is read again. If the row shows
// the transaction, all of it is believed. If not, that is no proof (it was seen
// to appear 1.5 s later), so the same transaction runs again, with the same
// token: whichever run comes second meets the fence. After such a doubt a
// barrier is written before anything is built on the row, because a primary
// that waits for a synchronous standby can show what isn't durable yet.
func (a *attempt) commit(ctx context.Context, compose composer) (ending, error) {
	doubt, repeats := false, 0
	start := time.Now()
	for try := 1; ; try++ {
		end, happened, err := a.try(ctx, compose)
		switch happened {
		case committed:
			return a.settled(ctx, end, doubt)
		case unconfirmed:
			return a.settled(ctx, end, true)
		case failed:
			return ending{}, err
		case fenced:
			if !doubt {
				return ending{}, errFenced
			}
			// Perhaps it was fenced by its own earlier run.
			if end, err := a.afterDoubt(ctx, end); !errors.Is(err, errNotShown) {
				return end, err
			}
		case repeated:
			if repeats++; repeats > maxRepeats {
				return ending{}, fmt.Errorf("after %d runs: %w", repeats, err)
			}
			if a.entry == entryFresh && !doubt && isLockTimeout(err) {
				return ending{}, ErrInUse // somebody else is inserting the row
			}
		case unsent:
			if a.entry != entryHeld && !doubt && errors.Is(err, errUnsent) {
				return ending{}, err // nothing is claimed yet: refuse early
			}
		case doubtful:
			doubt = true
			a.engine.metrics.doubts.Inc()
			if end, err := a.afterDoubt(ctx, end); !errors.Is(err, errNotShown) {
				return end, err
			}
		}
		if time.Since(start) > doubtPatience || !pause(ctx, try) {
			return ending{}, fmt.Errorf("%w: giving up on a transaction after %d tries: %w", ErrUnavailable, try, err)
		}
	}
}

// afterDoubt settles a transaction by what the row shows.
func (a *attempt) afterDoubt(ctx context.Context, wanted ending) (ending, error) {
	end, err := a.believe(ctx, wanted)
	if err != nil {
		return ending{}, err
	}
	return a.settled(ctx, end, true)
}

// try runs one transaction once.
func (a *attempt) try(ctx context.Context, compose composer) (ending, fate, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	watch := startStopwatch()
	tx := &Tx{ctx: ctx, attempt: a, known: slices.Clip(a.known)}
	tx.guard = a.opener(tx)
	defer tx.close() //nolint:contextcheck // it rolls back on the transaction's own context, without its end

	end, err := compose(tx)
	if err == nil {
		if guard, ok := a.guard(tx, end); ok {
			tx.guard = guard
		} else {
			tx.queue = append(tx.queue, a.move(tx, end))
		}
		err = tx.send(statement{sql: commit})
	}
	if tx.broken != nil {
		return end, tx.broken.fate(), tx.broken.wrap()
	}
	if err != nil {
		return end, failed, err // a phase gave up
	}
	a.known = tx.known
	if !tx.now.IsZero() {
		a.clock = clock{at: tx.now, watch: watch}
	}
	if a.engine.config.Unconfirmed != nil && a.engine.config.Unconfirmed(tx.conn.Conn()) {
		return end, unconfirmed, nil
	}
	return end, committed, nil
}

// settled is the end of a transaction that is known to have committed.
func (a *attempt) settled(ctx context.Context, end ending, doubt bool) (ending, error) {
	if doubt {
		if err := a.engine.barrier(ctx, a.key.Account, a.key.Key); err != nil {
			return ending{}, err
		}
	}
	a.apply(end)
	return end, nil
}

// believe reads the row after a doubt and returns the ending that it shows. It
// returns errNotShown when the row doesn't show the transaction, which proves
// nothing, and errFenced when the row is in other hands.
func (a *attempt) believe(ctx context.Context, wanted ending) (ending, error) {
	watch := startStopwatch()
	found, err := a.engine.read(ctx, a.key.Account, a.key.Key)
	if err != nil {
		// Not being able to look is no reason to give up: look again.
		return ending{}, fmt.Errorf("%w: %w", errNotShown, err)
	}
	switch {
	case found == nil:
		return ending{}, errNotShown
	case a.entry == entryParked && found.parkedReason != nil && found.epoch == a.epoch:
		return ending{}, errNotShown // as it was before
	case a.entry == entryFresh && deref(found.token) != a.token:
		// Another request may have taken the key first, and with other
		// parameters: what its row holds answers nobody before the two are
		// compared.
		return ending{}, errFenced
	case found.finishedAt != nil || found.parkedReason != nil:
		end, err := over(found)
		end.replayed = wanted.kind != endFinished || found.epoch != a.epoch // else it is this attempt's own
		return end, err
	case deref(found.token) == a.token:
		moved := found.point != a.key.RecoveryPoint || a.entry != entryHeld
		if !moved {
			return ending{}, errNotShown // such a transaction can run twice
		}
		a.clock = clock{at: found.now, watch: watch}
		return ending{kind: endAdvanced, point: found.point, form: wanted.form, row: found}, nil
	case wanted.kind == endReleased && found.token == nil && found.epoch == a.epoch+1:
		return wanted, nil
	default:
		return ending{}, errFenced
	}
}

// pause waits a little longer before each try. It returns false when ctx ended.
func pause(ctx context.Context, try int) bool {
	wait := Backoff{Initial: 20 * time.Millisecond, Max: 500 * time.Millisecond}.Next(try)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
