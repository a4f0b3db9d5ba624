package phases

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// reasonWindow parks a key that was found nowhere after the time in which its
// form could be sent again.
const reasonWindow = "window_over"

// call makes the foreign call that is next, between two transactions, and
// commits its result.
func (a *attempt) call(ctx context.Context) (ending, error) {
	next, err := a.flow.after(a.key.RecoveryPoint)
	if err != nil {
		return ending{}, err
	}
	if end, err := a.arm(ctx, next); err != nil || end.final() {
		return end, err
	}
	result, err := a.ask(ctx, next.foreign)
	if errors.Is(err, ErrNothingFound) {
		return a.nothingFound(ctx)
	}
	if err != nil {
		return ending{}, err
	}
	return a.commit(ctx, func(tx *Tx) (ending, error) {
		return a.compose(tx, next, func(tx *Tx, key Key) (Outcome, error) {
			return next.foreign.record(tx, key, a.sent.form, result)
		})
	})
}

// arm sees to it that what will be sent is frozen, and that the time of its
// first send is durable, before anything is sent. On the ordinary way both were
// committed with the point before.
func (a *attempt) arm(ctx context.Context, next Phase) (ending, error) {
	key := ForeignKey(a.flow.name, next.point, a.key.Account, a.key.Key)
	stay := ending{kind: endAdvanced, point: a.key.RecoveryPoint}
	switch {
	case a.sent.key != key:
		return a.commit(ctx, func(tx *Tx) (ending, error) { return a.freeze(tx, a.key.RecoveryPoint, next) })
	case a.sent.firstSentAt.IsZero():
		// A claim that knew that nothing had left took its time back.
		stay.foreignKey, stay.form = &a.sent.key, &a.sent.form
		return a.commit(ctx, func(*Tx) (ending, error) { return stay, nil })
	default:
		return stay, nil
	}
}

// ask sends what is frozen, or looks it up where sending is no longer safe.
func (a *attempt) ask(ctx context.Context, f *foreign) (any, error) {
	if a.sent.findReason != "" || a.sent.ref != "" || a.windowLeft() <= 0 {
		return a.timed(ctx, "find", f.find)
	}
	result, err := a.timed(ctx, "do", f.do)
	var unclear *CallError
	if !errors.As(err, &unclear) || unclear.Class != LookUp {
		return result, err
	}
	// From now on nobody sends this again: committed before anybody looks.
	if _, err := a.commit(ctx, func(*Tx) (ending, error) {
		return ending{kind: endNoted, point: a.key.RecoveryPoint, reason: unclear.Reason, after: unclear.Patience}, nil
	}); err != nil {
		return nil, err
	}
	return a.timed(ctx, "find", f.find)
}

// timed makes one call with a deadline, which a send never carries beyond the
// end of the window.
func (a *attempt) timed(
	ctx context.Context, how string, call func(context.Context, Sent[string]) (any, error),
) (any, error) {
	left := a.windowLeft()
	limit := a.engine.config.CallTimeout
	if how == "do" {
		limit = min(limit, left)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	start := time.Now()
	result, err := guarded(func() (any, error) {
		return call(ctx, Sent[string]{
			Key: a.sent.key, Form: a.sent.form, FirstSentAt: a.sent.firstSentAt,
			First: a.sent.mine, Ref: a.sent.ref, WindowOver: left <= 0,
		})
	})
	a.sent.mine = a.sent.mine && isTransient(err)
	a.engine.metrics.called(a.flow.name, how, err, time.Since(start))
	var panicked *PanicError
	if err == nil || errors.Is(err, ErrNothingFound) || errors.As(err, &panicked) {
		return result, err
	}
	if cause := context.Cause(ctx); errors.Is(cause, ErrAborted) {
		return nil, fmt.Errorf("%w: %w", ErrAborted, err)
	}
	return nil, classify(err)
}

// windowLeft is how much of the time is left in which the form may be sent. It
// is judged by the database's clock, and can only be found too short.
func (a *attempt) windowLeft() time.Duration {
	return a.engine.config.Window - a.clock.now().Sub(a.sent.firstSentAt)
}

// nothingFound decides what it means that no earlier send left a trace. It is
// no proof that none got through, so nothing is ever sent again: the key is
// looked up once more later, or parked.
func (a *attempt) nothingFound(ctx context.Context) (ending, error) {
	reason := a.sent.findReason
	switch {
	case reason != "" && a.clock.now().Before(a.sent.findUntil) && a.windowLeft() > 0,
		reason == "" && a.windowLeft() > 0:
		return ending{}, &CallError{Class: Unknown, Err: ErrNothingFound}
	case reason == "":
		reason = reasonWindow
	}
	return a.commit(ctx, func(tx *Tx) (ending, error) {
		return a.conclude(tx, Park(reason, "no earlier send left a trace at the other side, which is no proof"), a.key.RecoveryPoint)
	})
}

func isTransient(err error) bool {
	var call *CallError
	return errors.As(err, &call) && call.Class == Transient
}
