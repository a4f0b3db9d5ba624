package phases

import (
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// What Run, Resume and the operator's methods refuse with. None of them is ever
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
	ErrUnknownVersion = errors.New("idempotency key belongs to another version of the service")
	// ErrPaused: foreign calls are switched off.
	ErrPaused = errors.New("foreign calls are switched off")
	// ErrDraining: this process is shutting down.
	ErrDraining = errors.New("shutting down")
	// ErrBusy: this process has as many attempts in flight as it may.
	ErrBusy = errors.New("too many requests in flight")
	// ErrUnavailable: Postgres could not be asked, or didn't answer in time.
	ErrUnavailable = errors.New("database is unavailable")
	// ErrAborted: Shutdown ended the attempt and released the key.
	ErrAborted = errors.New("the process is ending")
)

// A ForeignError says that the attempt ended because the other side gave no
// definitive result. The key keeps its recovery point.
type ForeignError struct {
	Class Class
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
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// isTrouble reports whether a SQLSTATE stands for trouble that passes by
// itself: lost connections (08), transactions to be run again (40), resources
// (53), time-outs and shutdowns (55P03, 57), the system (58), internal errors
// (XX), and a server that is read-only (25006).
func isTrouble(code string) bool {
	switch class(code) {
	case "08", "40", "53", "57", "58", "XX":
		return true
	}
	return code == lockNotAvailable || code == "25006"
}

const lockNotAvailable = "55P03"

func isLockTimeout(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == lockNotAvailable
}

// isImpossible reports whether err is a violated constraint: the data
// contradicts what the flow takes for granted, and trying again cannot help.
func isImpossible(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && class(pg.Code) == "23"
}

// class returns the first two characters of a SQLSTATE.
func class(code string) string { return code[:min(2, len(code))] }
