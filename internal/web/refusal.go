package web

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// A ProblemError is a refusal that a handler returns.
type ProblemError struct {
	Problem    Problem
	RetryAfter int   // seconds for the Retry-After header, 0 for none
	Cause      error // for the log, never for the client; may be nil
}

// NewProblemError returns the refusal of a code with its standard text and
// Retry-After. The cause may be nil.
func NewProblemError(code Code, cause error) *ProblemError {
	return &ProblemError{Problem: NewProblem(code), RetryAfter: kinds[code].retryAfter, Cause: cause}
}

// Bounds of a problem that lists faults: a client decides how many there are,
// and how long the names are that they point at.
const (
	maxFaults  = 20
	maxPointer = 200 // characters
	maxDetail  = 300 // characters
	// maxProblem is the most that a problem may have, in bytes, without the id
	// of its request. With it, no problem exceeds 8 KiB.
	maxProblem = 8<<10 - 64
)

// InvalidParameters returns the refusal of a request with faulty parameters. It
// lists the first 20 of them, or fewer if those are long. Its detail ends with
// the advice.
func InvalidParameters(faults []ParamFault, advice ...string) *ProblemError {
	var listed []ParamFault
	for _, fault := range faults[:min(len(faults), maxFaults)] {
		listed = append(listed, ParamFault{Pointer: cut(fault.Pointer, maxPointer), Detail: cut(fault.Detail, maxDetail)})
	}
	for {
		refusal := NewProblemError(CodeInvalidParameters, nil)
		refusal.Problem.Errors = listed
		if len(listed) < len(faults) {
			refusal.Problem.Detail = fmt.Sprintf("`errors` lists %d of %d faults; correct them all.", len(listed), len(faults))
		}
		refusal.Problem.Detail = strings.Join(append([]string{refusal.Problem.Detail}, advice...), " ")
		if len(refusal.Problem.Encode()) <= maxProblem {
			return refusal
		}
		listed = listed[:len(listed)-1]
	}
}

// cut returns a text of at most limit characters. One that is longer ends with
// an ellipsis.
func cut(text string, limit int) string {
	if utf8.RuneCountInString(text) <= limit {
		return text
	}
	return string([]rune(text)[:limit-1]) + "…"
}

// Error returns the code and the cause.
func (e *ProblemError) Error() string {
	if e.Cause == nil {
		return "refused: " + string(e.Problem.Code)
	}
	return string(e.Problem.Code) + ": " + e.Cause.Error()
}

// Unwrap returns the cause.
func (e *ProblemError) Unwrap() error { return e.Cause }

// ErrClientGone means that the client went away before its body was there, or
// while it waited. It gets no answer.
var ErrClientGone = errors.New("the client is gone")

// How log and metrics show a client that is gone. The status is nginx's.
const (
	codeClientGone   Code = "client_gone"
	statusClientGone int  = 499
)

// refuse answers with the problem that an error is. A client that is gone gets
// no answer.
func refuse(w http.ResponseWriter, r *Request, err error) {
	if errors.Is(err, ErrClientGone) {
		r.record.code, r.record.status = codeClientGone, statusClientGone
		return
	}
	refusal := problemOf(err)
	problem := refusal.Problem
	problem.RequestID = r.ID
	r.record.code, r.record.cause = problem.Code, err
	if refusal.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(refusal.RetryAfter))
	}
	w.Header().Set("Content-Type", ProblemType)
	answer(w, r, problem.Status, problem.Encode())
}

// knownErrors says which problem an error is. The first line that matches
// counts.
//
//nolint:gochecknoglobals // A table that nothing writes to; Go has no constant slices.
var knownErrors = []struct {
	err  error
	code Code
}{
	{phases.ErrKeyReused, CodeIdempotencyKeyReused},
	{phases.ErrKeyExpired, CodeIdempotencyKeyExpired},
	{phases.ErrParked, CodePaymentUnderReview},
	{phases.ErrInUse, CodeIdempotencyKeyInUse},
	// These may not happen again at another time or in another process.
	{phases.ErrUnavailable, CodeUnavailable},
	{phases.ErrUnknownVersion, CodeUnavailable},
	{phases.ErrPaused, CodeUnavailable},
	{phases.ErrDraining, CodeUnavailable},
	{phases.ErrBusy, CodeUnavailable},
	{phases.ErrAborted, CodeUnavailable},
	{context.DeadlineExceeded, CodeUnavailable},
	{context.Canceled, CodeUnavailable},
	{errKeyMissing, CodeIdempotencyKeyMissing},
}

// busySpread is over how many seconds clients come back of which there were too
// many.
const busySpread = 10

// problemOf translates an error into the refusal that the client sees: the one
// place where an error gets its status. A *[ProblemError] anywhere in the chain
// is kept as it is. Of the parsers' errors the reason is shown. Of every other
// error nothing is shown, not even its text, and an unknown one is "internal".
// err is not nil.
func problemOf(err error) *ProblemError {
	if refusal, ok := errors.AsType[*ProblemError](err); ok {
		return refusal
	}
	if json, ok := errors.AsType[*JSONError](err); ok {
		return withReason(CodeInvalidJSON, err, json.Error())
	}
	if key, ok := errors.AsType[*keyError](err); ok {
		return withReason(CodeIdempotencyKeyInvalid, err, key.reason)
	}
	if foreign, ok := errors.AsType[*phases.ForeignError](err); ok {
		return notSettled(foreign, err)
	}
	if busy, ok := errors.AsType[*phases.InUseError](err); ok {
		refusal := NewProblemError(CodeIdempotencyKeyInUse, err)
		refusal.RetryAfter = RetryAfter(busy.RetryAfter)
		return refusal
	}
	for _, known := range knownErrors {
		if errors.Is(err, known.err) {
			refusal := NewProblemError(known.code, err)
			if known.code == CodeUnavailable {
				// Clients that were refused together must not come back
				// together. Those that are too many come back one by one.
				spread := 2
				if known.err == phases.ErrBusy { //nolint:errorlint // a line of the table
					spread = busySpread
				}
				refusal.RetryAfter += rand.IntN(spread) //nolint:gosec // spreading load needs no secrecy
			}
			return refusal
		}
	}
	return NewProblemError(CodeInternal, err)
}

// notSettled is the refusal of a request whose foreign call brought no result.
func notSettled(foreign *phases.ForeignError, cause error) *ProblemError {
	refusal := NewProblemError(CodePaymentProcessorUnavailable, cause)
	refusal.RetryAfter = ForeignRetryAfter(foreign.RetryAfter)
	if foreign.Waiting {
		refusal.Problem.Detail = "The payment processor has this payment and is still working on it. " +
			"Send the request again with the same Idempotency-Key after the time in Retry-After."
	}
	return refusal
}

// WithoutSafeNewKey returns the refusal that an error is, which doesn't say that
// a new key is safe.
func WithoutSafeNewKey(err error) error {
	if errors.Is(err, ErrClientGone) {
		return err
	}
	refusal := problemOf(err)
	refusal.Problem.SafeNewKey = false
	return refusal
}

// withReason puts what happened before what to do.
func withReason(code Code, cause error, reason string) *ProblemError {
	refusal := NewProblemError(code, cause)
	refusal.Problem.Detail = strings.TrimSuffix(reason, ".") + ". " + refusal.Problem.Detail
	return refusal
}

// RetryAfter returns a wait in the seconds of the header Retry-After. It is 1
// at least, and rounded up: a client that comes back before its time comes in
// vain. It has no upper bound, because a client that obeys eight times must
// outlive the lease of a dead worker, however long leases are.
func RetryAfter(wait time.Duration) int { return ceilSeconds(max(wait, time.Second)) }

// ForeignRetryAfter is RetryAfter where the wait is the completer's pause before
// it asks the other side again, and is a minute at most. Those pauses grow to
// half an hour, but a client that comes back has the other side asked at once.
func ForeignRetryAfter(pause time.Duration) int { return RetryAfter(min(pause, time.Minute)) }

// ceilSeconds rounds up to whole seconds.
func ceilSeconds(wait time.Duration) int { return int((wait + time.Second - 1) / time.Second) }
