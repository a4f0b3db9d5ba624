package phases

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
)

// reasons for which the completer parks a key by itself.
const (
	reasonMaxAttempts = "max_attempts"
	reasonImpossible  = "impossible_violation"
)

// fail ends an attempt that brought no answer: the key is given back where it
// stands, and nothing of the failure is stored but its text. It returns the
// error for the caller. A key that is new and was never inserted leaves
// nothing.
func (a *attempt) fail(aborted context.Context, cause error) error {
	// The attempt may have ended because its context did.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(aborted), releaseTimeout)
	defer cancel()
	if a.entry != entryHeld {
		return cause
	}
	if errors.Is(context.Cause(aborted), ErrAborted) {
		cause = fmt.Errorf("%w: %w", ErrAborted, cause)
	}
	end := a.release(cause)
	if a.unattended() {
		a.logFailure(ctx, cause, end)
	}
	_, err := a.commit(ctx, func(tx *Tx) (ending, error) {
		if end.kind == endParked {
			return end, a.note(tx, "key.parked", map[string]string{"reason": end.reason})
		}
		return end, nil
	})
	switch {
	case errors.Is(err, errFenced):
		a.engine.metrics.fenced.Inc()
	case err != nil:
		a.engine.log.WarnContext(ctx, "not released: the lease must run out", append(a.attrs(), slog.Any("error", err))...)
	case end.kind == endParked:
		a.parked(ctx, end)
		return ErrParked
	}
	if call, ok := errors.AsType[*CallError](cause); ok {
		return &ForeignError{Class: call.Class, RetryAfter: end.after, Err: call.Err}
	}
	return cause
}

// release decides how a failed attempt leaves its key.
func (a *attempt) release(cause error) ending {
	end := ending{
		kind: endReleased, point: a.key.RecoveryPoint, reason: cause.Error(),
		after: a.engine.config.Backoff.Next(a.key.Attempts),
	}
	var call *CallError
	switch {
	case errors.Is(cause, ErrKeyExpired):
		return ending{kind: endBuried, point: Finished}
	case errors.Is(cause, ErrAborted):
		end.after = 0 // another process goes on at once
	case errors.As(cause, &call):
		if call.Backoff != (Backoff{}) {
			end.after = call.Backoff.Next(a.key.Attempts)
		}
		// Nothing left this process, and nothing had before: the window has not
		// begun.
		end.unsent = call.Class == Transient && a.sent.mine
	case a.request == nil && countsTowardsParking(cause):
		return a.countFailure(cause, end)
	}
	return end
}

// countFailure counts a failure that the completer found, and parks the key
// when there were enough of them. What a client's retries find is not counted:
// a client must not be able to park a key by retrying.
func (a *attempt) countFailure(cause error, end ending) ending {
	end.failures = 1
	if isImpossible(cause) {
		end.kind, end.reason, end.detail = endParked, reasonImpossible, cause.Error()
	} else if a.failures+1 >= a.engine.config.MaxAttempts {
		end.kind, end.reason, end.detail = endParked, reasonMaxAttempts, cause.Error()
	}
	return end
}

// unattended tells that no caller waits for the attempt, who would log how it
// ended.
func (a *attempt) unattended() bool { return a.request == nil || a.request.Async }

// logFailure logs an attempt's failure, with its cause.
func (a *attempt) logFailure(ctx context.Context, cause error, end ending) {
	level := slog.LevelWarn
	attrs := append(a.attrs(), slog.Any("error", cause), slog.Float64("again_in_seconds", end.after.Seconds()))
	if panicked, ok := errors.AsType[*PanicError](cause); ok {
		level = slog.LevelError
		attrs = append(attrs, slog.String("stack", string(panicked.Stack)))
	}
	a.engine.log.Log(ctx, level, "released", attrs...)
}

// parked tells people that a key waits for them.
func (a *attempt) parked(ctx context.Context, end ending) {
	a.engine.metrics.parked.WithLabelValues(end.reason).Inc()
	a.engine.log.ErrorContext(ctx, "parked: a person must decide", append(a.attrs(), slog.String("reason", end.reason))...)
}
