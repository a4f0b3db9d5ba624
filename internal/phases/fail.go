package phases

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Reasons for which the completer parks a key by itself.
const (
	ReasonMaxAttempts = "max_attempts" // it has failed as often as it may
	reasonImpossible  = "impossible_violation"
)

// releaseTimeout bounds how long a failed attempt tries to release its key. If
// it can't, the lease runs out.
const releaseTimeout = 5 * time.Second

// fail ends an attempt that brought no answer, and returns the error for its
// caller. The key is released where it stands, and nothing of the failure is
// stored but its text. A new key that was never inserted leaves nothing.
func (a *attempt) fail(ended context.Context, cause error) error {
	if a.entry != entryHeld {
		return cause
	}
	if errors.Is(context.Cause(ended), ErrAborted) {
		cause = fmt.Errorf("%w: %w", ErrAborted, cause)
	}
	// The attempt may have failed because its context ended.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ended), releaseTimeout)
	defer cancel()
	end := a.afterFailure(cause)
	a.logFailure(ctx, cause, end)
	// After a doubt the row may show that another worker has ended the key.
	shown, err := a.transact(ctx, func(*Tx) (*ending, error) { return end, nil })
	switch {
	case errors.Is(err, errFenced):
		a.engine.metrics.fenced.Inc()
	case err != nil:
		a.engine.log.LogAttrs(ctx, slog.LevelWarn, "not released: the lease must run out", a.attrs(ctx, slog.Any("error", err))...)
	case shown.kind == endParked:
		a.reportParked(ctx, shown)
		return ErrParked
	}
	if call, ok := errors.AsType[*CallError](cause); ok {
		return &ForeignError{Class: call.Class, RetryAfter: end.after, Err: call.Err}
	}
	return cause
}

// afterFailure decides how a failed attempt leaves its key.
func (a *attempt) afterFailure(cause error) *ending {
	end := &ending{kind: endReleased, reason: cause.Error(), after: a.engine.config.Backoff.Next(a.key.Attempts)}
	var call *CallError
	switch {
	case errors.Is(cause, ErrKeyExpired):
		return &ending{kind: endExpired}
	case errors.Is(cause, ErrAborted):
		end.after = 0 // another process may go on at once
	case errors.As(cause, &call):
		if call.Backoff != (Backoff{}) {
			end.after = call.Backoff.Next(a.key.Attempts)
		}
		// Neither this send nor an earlier one left the process: the window has
		// not begun.
		end.neverSent = call.Class == Transient && a.call.first
		if call.Counts && a.request == nil {
			return a.countFailure(cause, end)
		}
	case a.request == nil && !errors.Is(cause, ErrUnavailable):
		return a.countFailure(cause, end)
	}
	return end
}

// countFailure counts a failure that would repeat with the same input, and
// parks the key when there were enough of them. Only what the completer finds
// is counted: a client must not be able to park a key by retrying.
func (a *attempt) countFailure(cause error, end *ending) *ending {
	end.failures = 1
	if isImpossible(cause) {
		end.kind, end.reason, end.detail = endParked, reasonImpossible, cause.Error()
	} else if a.failures+1 >= a.engine.config.MaxAttempts {
		end.kind, end.reason, end.detail = endParked, ReasonMaxAttempts, cause.Error()
		if call, ok := errors.AsType[*CallError](cause); ok && call.Reason != "" {
			end.reason = call.Reason
		}
	}
	return end
}

// unattended reports whether no caller waits for the attempt. A caller logs how
// the attempt ended; otherwise the engine does.
func (a *attempt) unattended() bool { return a.request == nil || a.request.Async }

// logFailure logs a failure that no caller waits for, with its cause. If the
// key is parked for it, reportParked does.
func (a *attempt) logFailure(ctx context.Context, cause error, end *ending) {
	if !a.unattended() || end.kind == endParked {
		return
	}
	level := slog.LevelWarn
	attrs := a.attrs(ctx, slog.Any("error", cause))
	if end.kind == endReleased {
		attrs = append(attrs, slog.Float64("again_in_seconds", end.after.Seconds()))
	}
	if panicked, ok := errors.AsType[*PanicError](cause); ok {
		level = slog.LevelError
		attrs = append(attrs, slog.String("stack", string(panicked.Stack)))
	}
	a.engine.log.LogAttrs(ctx, level, "attempt failed", attrs...)
}

// reportParked tells people that a key waits for them.
func (a *attempt) reportParked(ctx context.Context, end *ending) {
	a.engine.metrics.parked.WithLabelValues(end.reason).Inc()
	a.engine.log.LogAttrs(ctx, slog.LevelError, "parked: a person must decide", a.attrs(ctx,
		slog.String("reason", end.reason), slog.String("cause", end.detail))...)
}
