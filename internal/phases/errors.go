package phases

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// What Engine.Run and the operator's methods refuse with. None of them is ever
// stored with a key: the same request may be made again.
var (
	// ErrKeyReused: the key was used for another request.
	ErrKeyReused = errors.New("idempotency key was used for another request")
	// ErrKeyExpired: the key's request finished long ago and was reaped.
	ErrKeyExpired = errors.New("idempotency key has expired")
	// ErrInUse: the same request is running right now.
	ErrInUse = errors.New("idempotency key is in use")
	// ErrParked: the key waits for a person.
	ErrParked = errors.New("idempotency key is under review")
	// ErrUnknownVersion: the key belongs to a flow, a version, a canonical form
	// or a realm that this process doesn't know; another process does.
	ErrUnknownVersion = errors.New("this process doesn't know the flow, the version or the realm (test or live) of the idempotency key")
	// ErrPaused: the flow is switched off, or there is no realm to work in; see
	// Config.Realm.
	ErrPaused = errors.New("the flow is switched off, or the account on the foreign side is unknown or not the one on record")
	// ErrDraining: this process is shutting down.
	ErrDraining = errors.New("shutting down")
	// ErrBusy: as many attempts are in flight as may be, in this process or for
	// the account.
	ErrBusy = errors.New("too many requests in flight")
	// ErrUnavailable: Postgres could not be asked, or didn't answer in time.
	ErrUnavailable = errors.New("database is unavailable")
	// ErrGone: a row that was seen is there no more, as after a fail-over.
	ErrGone = errors.New("the key's row is gone")
	// ErrAborted: Shutdown ended the attempt and released the key.
	ErrAborted = errors.New("the process is ending")
)

// An InUseError is ErrInUse with the time after which the request is worth
// sending again.
type InUseError struct {
	// RetryAfter grows with the age of the claim, and never exceeds what is
	// left of the lease.
	RetryAfter time.Duration
}

func (e *InUseError) Error() string { return ErrInUse.Error() }

func (e *InUseError) Unwrap() error { return ErrInUse }

// inUse returns the refusal of a request whose key was claimed some time ago,
// and is leased for left more, of a whole lease.
//
// Most requests end within a second, so the first retries come soon; a worker
// that died holds its key for the rest of its lease, so later ones wait longer.
// A client that obeys eight times outlives the lease of a worker that died:
// each wait of three quarters of the age makes the age grow by that much, and a
// thirtieth of the lease is where that starts for long leases.
func inUse(left, lease, age time.Duration) error {
	wait := max(time.Second, lease/30, age*3/4)
	return &InUseError{RetryAfter: max(min(wait, left), 0)}
}

// A ForeignError says that the attempt ended because the other side gave no
// definitive result. The key keeps its recovery point.
type ForeignError struct {
	Class Class
	// Waiting means that the other side has the call and is still working on
	// it; see Wait.
	Waiting bool
	// RetryAfter is when the completer will try next.
	RetryAfter time.Duration
	Err        error
}

func (e *ForeignError) Error() string { return "foreign call: " + e.Err.Error() }

func (e *ForeignError) Unwrap() error { return e.Err }

// A PanicError is a panic of a phase or a foreign call. The key is released.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

var (
	// errFenced: another worker has claimed the row; nothing was written.
	errFenced = errors.New("another worker has claimed the key")
	// errAbandoned: the row gives no answer, and may be claimed.
	errAbandoned = errors.New("the key is unfinished and nobody holds it")
	// errLeaseLost: a foreign call has lasted longer than its lease could be
	// renewed, because the database was away or another worker has the key.
	errLeaseLost = errors.New("given up, because its lease could not be renewed")
	// errNotShown: the row doesn't show a transaction whose answer was lost.
	errNotShown = errors.New("the row does not show the transaction")
	// errNoOutcome: a phase returned no outcome and no error.
	errNoOutcome = errors.New("phase returned no outcome")
	// errNoAnswer: a flow's last phase advanced instead of finishing.
	errNoAnswer = errors.New("the last phase must finish with an answer")
	// errUnsent: there was no connection to send a statement on.
	errUnsent = errors.New("nothing was sent")
	// errUnconfirmed: the server warned that its standby did not confirm.
	errUnconfirmed = errors.New("commit was not confirmed by the synchronous standby")
)

// wrap returns what a failure means to the caller.
func (f *failure) wrap() error {
	var pg *pgconn.PgError
	if errors.As(f.err, &pg) && f.statement.once && pg.Code == uniqueViolation {
		return ErrKeyExpired
	}
	return unavailable(f.err)
}

const uniqueViolation = "23505"

// unavailable marks err as ErrUnavailable if the database or the way to it is
// in trouble, and returns it unchanged if a statement is at fault. FATAL is
// trouble whatever its code: it ends the session from outside, for instance
// when it slept in a transaction for too long (25P03), and passes by itself.
func unavailable(err error) error {
	var pg *pgconn.PgError
	var scan pgx.ScanArgError
	if errors.As(err, &scan) || errors.As(err, &pg) && provesAbort(pg) && !isTrouble(pg.Code) {
		return err
	}
	return asUnavailable(err)
}

// asUnavailable marks err as ErrUnavailable, once.
func asUnavailable(err error) error {
	if errors.Is(err, ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// isTrouble reports whether a SQLSTATE stands for trouble that passes by
// itself: lost connections (08), transactions to be run again (40), resources
// (53), time-outs and shutdowns (55P03, 57), the system (58), internal errors
// (XX), a server that is read-only (25006), and a pooler that has given the
// session another server, which doesn't know its prepared statements or knows
// others by their names (26000, 42P05).
func isTrouble(code string) bool {
	switch class(code) {
	case "08", "40", "53", "57", "58", "XX":
		return true
	}
	return slices.Contains([]string{lockNotAvailable, "25006", "26000", "42P05"}, code)
}

const lockNotAvailable = "55P03"

// isStale reports whether err says that a prepared statement is of no use any
// more: the server has lost it, or the type of a column has changed.
func isStale(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "26000" || pg.Code == "0A000")
}

func isLockTimeout(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == lockNotAvailable
}

// isKeyLocked reports whether err is a lock time-out at the row of a key, which
// another transaction is inserting or changing. The server says so in the
// error's context; it has none when a whole table is locked.
func isKeyLocked(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == lockNotAvailable && strings.Contains(pg.Where, `"idempotency_keys`)
}

// isImpossible reports whether err is a violated constraint: the data
// contradicts what the flow takes for granted, and trying again cannot help.
func isImpossible(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && class(pg.Code) == "23"
}

// class returns the first two characters of a SQLSTATE.
func class(code string) string { return code[:min(2, len(code))] }
