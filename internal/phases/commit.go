package phases

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rocketrides/rocketrides/internal/pause"
)

// Limits of one transaction. They are politeness towards callers and the pool:
// no safety rests on them.
const (
	// acquireTimeout bounds the wait for a connection: when the pool is
	// exhausted, refusing early beats queueing for ever.
	acquireTimeout = 2 * time.Second
	// statementTimeout bounds one read, or what a transaction sends at once. It
	// lies above the lock time-out (2 s).
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
	fateCommitted   fate = iota
	fateBroken           // there was no connection, or it broke before COMMIT was sent
	fateFailed           // it did not commit, and would not the next time
	fateRepeat           // the server rolled it back, and another run may do better
	fateFenced           // the row isn't as this attempt left it
	fateDoubtful         // it may have committed, or may yet
	fateUnconfirmed      // it committed here, and perhaps not on the standby
)

// fate judges a failure. Once COMMIT is on its way, an abort is proved by one
// thing only: a server ERROR for a statement before COMMIT. FATAL, a lost
// connection and a shutdown come from outside the transaction, and an ERROR for
// COMMIT itself proves nothing on Citus, where COMMIT may fail after a worker
// has committed. pgconn.SafeToRetry proves nothing either: with
// QueryExecModeExec, which poolers need, it is true of a lost answer too.
func (f *failure) fate() fate {
	if f.broken {
		return fateBroken
	}
	var pg *pgconn.PgError
	if !errors.As(f.err, &pg) || f.last || !provesAbort(pg) {
		if f.committing {
			return fateDoubtful
		}
		return fateFailed // without COMMIT on its way nothing can commit
	}
	switch {
	case f.statement.guard && (pg.Code == "22012" || pg.Code == uniqueViolation):
		return fateFenced
	case pg.Code == "40001", pg.Code == "40P01", pg.Code == lockNotAvailable, isStale(pg):
		return fateRepeat
	default:
		return fateFailed
	}
}

// provesAbort reports whether an error says that the transaction was rolled
// back: severity ERROR, and neither a lost connection (class 08) nor a shutdown
// (57P01 to 57P05).
func provesAbort(pg *pgconn.PgError) bool {
	severity := pg.SeverityUnlocalized
	if severity == "" {
		severity = pg.Severity
	}
	return severity == "ERROR" && class(pg.Code) != "08" && !strings.HasPrefix(pg.Code, "57P0")
}

// A composer queues one transaction's statements and decides how it leaves the
// key. It may run more than once.
type composer func(tx *Tx) (*ending, error)

// transact runs one transaction until its fate is known, and returns how it
// left the key. It returns errFenced when another worker has claimed the key,
// and then nothing was written.
//
// When the answer to a COMMIT is lost, the row is read again. If the row shows
// the transaction, all of it is believed. If not, that is no proof (it was seen
// to appear 1.5 s later), so the same transaction runs again, with the same
// token: whichever run comes second meets the fence. After such a doubt a
// barrier is written before anything is built on the row, because a primary
// that waits for a synchronous standby can show what isn't durable yet.
func (a *attempt) transact(ctx context.Context, compose composer) (*ending, error) {
	doubt, repeats, start := false, 0, time.Now()
	for try := 1; ; try++ {
		end, happened, err := a.try(ctx, compose, try == 1)
		switch happened {
		case fateCommitted:
			return a.settle(ctx, end, doubt)
		case fateUnconfirmed:
			return a.settle(ctx, end, true)
		case fateFailed:
			return nil, err
		case fateDoubtful, fateFenced:
			if happened == fateDoubtful {
				doubt = true
				a.engine.metrics.doubts.Inc()
			}
			if !doubt {
				return nil, errFenced
			}
			// After a doubt, a transaction may be fenced by its own earlier
			// run.
			shown, err := a.readBack(ctx, end)
			switch {
			case err == nil:
				return a.settle(ctx, shown, true)
			case errors.Is(err, errFenced):
				// The request is answered from the row, and that may be its own:
				// inserted and finished at once.
				return nil, cmp.Or(a.engine.barrier(ctx, a.key.Account, a.key.Key), errFenced)
			case !errors.Is(err, errNotShown):
				return nil, err
			}
		case fateRepeat:
			if repeats++; repeats > maxRepeats {
				return nil, fmt.Errorf("after %d runs: %w", repeats, err)
			}
			if a.entry == entryInsert && !doubt && isLockTimeout(err) {
				if isKeyLocked(err) {
					return nil, ErrInUse // another request is inserting the row
				}
				return nil, err // nothing is claimed yet: refuse early
			}
		case fateBroken:
			if a.entry != entryHeld && !doubt && errors.Is(err, errUnsent) {
				return nil, err // nothing is claimed yet: refuse early
			}
		}
		if time.Since(start) > doubtPatience || backOff(ctx, try) != nil {
			return nil, asUnavailable(fmt.Errorf("giving up on a transaction after %d tries: %w", try, err))
		}
	}
}

// try runs one transaction once. If shares is set, it may share its COMMIT with
// others.
func (a *attempt) try(ctx context.Context, compose composer, shares bool) (*ending, fate, error) {
	watch := startStopwatch()
	tx := &Tx{ctx: ctx, attempt: a, known: a.known, shares: shares, queue: make([]statement, 2, 8)}
	defer tx.close()

	end, err := compose(tx)
	if err == nil {
		err = tx.commit(end) //nolint:contextcheck // no member's context ends what several share
	}
	switch {
	case tx.failure != nil:
		// A phase whose own read failed has not decided on an end.
		return cmp.Or(end, &ending{}), tx.failure.fate(), tx.failure.wrap()
	case err != nil:
		return end, fateFailed, err // a phase gave up
	}
	a.known = tx.known
	if !tx.now.IsZero() {
		a.clock = clock{at: tx.now, watch: watch, lease: a.engine.config.Lease}
	}
	if tx.unconfirmed {
		return end, fateUnconfirmed, nil
	}
	return end, fateCommitted, nil
}

// settle ends a transaction that is known to have committed: it brings the
// attempt to where the transaction left the key, after a barrier if there was a
// doubt.
func (a *attempt) settle(ctx context.Context, end *ending, doubt bool) (*ending, error) {
	if doubt {
		if err := a.engine.barrier(ctx, a.key.Account, a.key.Key); err != nil {
			return nil, err
		}
	}
	if a.entry != entryHeld {
		a.entry = entryHeld
		a.claimed()
	}
	switch {
	case end.row != nil:
		a.adopt(&end.row.row, end.form != nil)
		// What the phases have written since is not in known, because the
		// answer to their transaction was lost, and what is in known is out of
		// date. From here on the phases read.
		a.known = nil
		return end, nil
	case end.kind == endLookUp:
		a.call.findReason, a.call.findUntil = end.reason, a.call.firstSentAt.Add(end.after)
		return end, nil
	case end.kind == endFinished:
		a.key.RecoveryPoint = Finished
		return end, nil
	case end.kind != endAdvanced:
		return end, nil
	}
	if a.key.CreatedAt.IsZero() {
		a.key.CreatedAt = a.clock.at
	}
	if end.point != a.key.RecoveryPoint {
		a.call = storedCall{}
	}
	if end.form != nil {
		a.call.foreignKey, a.call.form = *end.foreignKey, *end.form
		a.call.firstSentAt, a.call.first = a.clock.at, true
	}
	a.key.RecoveryPoint = end.point
	a.engine.metrics.points.WithLabelValues(a.flow.name, end.point).Inc()
	return end, nil
}

// readBack reads the row after a doubt and returns the ending that it shows.
// wanted is the ending of the transaction in doubt. It returns errNotShown when
// the row doesn't show the transaction, which proves nothing, and errFenced
// when another worker has claimed the key.
func (a *attempt) readBack(ctx context.Context, wanted *ending) (*ending, error) {
	watch := startStopwatch()
	found, err := a.engine.read(ctx, a.id())
	if err != nil {
		// A read that failed is no reason to give up: read again.
		return nil, fmt.Errorf("%w: %w", errNotShown, err)
	}
	switch {
	case found == nil:
		return nil, errNotShown
	case a.entry == entryUnpark && found.parkedReason != nil && found.epoch == a.epoch:
		return nil, errNotShown // as it was before
	case a.entry == entryInsert && orZero(found.token) != a.token:
		// Another request may have inserted the key first, with other
		// parameters. Its answer must not be given before the two requests are
		// compared.
		return nil, errFenced
	case found.finishedAt != nil || found.parkedReason != nil:
		end, err := found.ending()
		end.replayed = wanted.kind != endFinished || found.epoch != a.epoch // otherwise this attempt wrote it
		return end, err
	case orZero(found.token) == a.token:
		moved := found.point != a.key.RecoveryPoint || a.entry != entryHeld
		if !moved {
			return nil, errNotShown // such a transaction can run twice
		}
		a.clock = found.clock(watch)
		return &ending{kind: endAdvanced, point: found.point, form: wanted.form, row: found}, nil
	case wanted.kind == endReleased && found.token == nil && found.epoch == a.epoch+1:
		return wanted, nil
	default:
		return nil, errFenced
	}
}

// backOff waits a little longer before each further try of a statement. It
// returns an error when ctx ends first.
func backOff(ctx context.Context, try int) error {
	return pause.For(ctx, Backoff{Initial: 20 * time.Millisecond, Max: 500 * time.Millisecond}.Next(try))
}
