package web

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

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

// InvalidParameters returns the refusal of a request with faulty parameters.
func InvalidParameters(faults []ParamFault) *ProblemError {
	refusal := NewProblemError(CodeInvalidParameters, nil)
	refusal.Problem.Errors = faults
	return refusal
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

// refuse answers with the problem that an error is.
func refuse(w http.ResponseWriter, r *Request, err error) {
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
		refusal := NewProblemError(CodePaymentProcessorUnavailable, err)
		refusal.RetryAfter = wholeSeconds(foreign.RetryAfter)
		return refusal
	}
	if busy, ok := errors.AsType[*phases.InUseError](err); ok {
		refusal := NewProblemError(CodeIdempotencyKeyInUse, err)
		refusal.RetryAfter = ceilSeconds(max(busy.RetryAfter, time.Second))
		return refusal
	}
	for _, known := range knownErrors {
		if errors.Is(err, known.err) {
			return spread(NewProblemError(known.code, err))
		}
	}
	return NewProblemError(CodeInternal, err)
}

// withReason puts what happened before what to do.
func withReason(code Code, cause error, reason string) *ProblemError {
	refusal := NewProblemError(code, cause)
	refusal.Problem.Detail = strings.TrimSuffix(reason, ".") + ". " + refusal.Problem.Detail
	return refusal
}

// spread varies the Retry-After of a refusal that has one, so that clients that
// were refused together don't come back together.
func spread(refusal *ProblemError) *ProblemError {
	if refusal.RetryAfter > 0 {
		refusal.RetryAfter += rand.IntN(2) //nolint:gosec // spreading load needs no secrecy
	}
	return refusal
}

// wholeSeconds rounds a wait up to whole seconds, between 1 second and 1
// minute.
func wholeSeconds(wait time.Duration) int {
	return ceilSeconds(min(max(wait, time.Second), time.Minute))
}

// ceilSeconds rounds up to whole seconds.
func ceilSeconds(wait time.Duration) int { return int((wait + time.Second - 1) / time.Second) }
