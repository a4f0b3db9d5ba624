package phases

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ReasonWindow parks a key whose call was found nowhere after the window, when
// its form must not be sent any more.
const ReasonWindow = "window_over"

// makeCall makes the foreign call that is next, between two transactions, and
// commits its result.
func (a *attempt) makeCall(ctx context.Context, next Phase) (*ending, error) {
	if end, err := a.ensureFrozen(ctx, next); err != nil || end.final() {
		return end, err
	}
	result, err := a.sendOrFind(ctx, next.foreign)
	switch {
	case errors.Is(err, ErrNothingFound):
		return a.nothingFound(ctx)
	case err != nil:
		return nil, err
	}
	form := a.call.form
	return a.runPhase(ctx, Atomic(next.point, func(tx *Tx, key Key) (Outcome, error) {
		return next.foreign.record(tx, key, form, result)
	}))
}

// ensureFrozen commits, before anything is sent, what will be sent, the time of
// its first send, and until when this send may be under way. Usually all of it
// was committed when the key reached its point, or was claimed.
func (a *attempt) ensureFrozen(ctx context.Context, next Phase) (*ending, error) {
	stay := a.stay()
	stay.calls = true
	switch {
	case a.call.foreignKey != a.foreignKey(next):
		return a.transact(ctx, func(tx *Tx) (*ending, error) { return a.freeze(tx, a.key.RecoveryPoint, next) })
	case a.call.firstSentAt.IsZero():
		// An earlier claim, which knew that nothing was sent, cleared the time.
		stay.foreignKey, stay.form = &a.call.foreignKey, &a.call.form
		return a.transact(ctx, func(*Tx) (*ending, error) { return stay, nil })
	case a.clock.leaseLeft() < a.engine.config.Lease/2:
		// The commit was slow, or this process was: the call would begin with
		// little or no time to renew its lease.
		return a.transact(ctx, func(*Tx) (*ending, error) { return stay, nil })
	default:
		return stay, nil
	}
}

// foreignKey returns the key under which the call that is next is sent. It is
// computed once for each call.
func (a *attempt) foreignKey(next Phase) string {
	if a.callPoint != next.point {
		a.callPoint = next.point
		a.callKey = ForeignKey(a.flow.name, next.point, a.key.Account, a.key.Key)
	}
	return a.callKey
}

// sendOrFind sends what is frozen, or looks it up when sending is no longer
// safe.
func (a *attempt) sendOrFind(ctx context.Context, f *foreign) (any, error) {
	if a.call.findReason != "" || a.call.ref != "" || a.windowLeft() <= 0 {
		return a.callOnce(ctx, "find", f.find)
	}
	result, err := a.callOnce(ctx, "do", f.do)
	unclear, ok := errors.AsType[*CallError](err)
	if !ok || unclear.Class != LookUp {
		return result, err
	}
	// From now on the form is never sent again. That is committed before the
	// first look-up.
	end, err := a.transact(ctx, func(*Tx) (*ending, error) {
		return &ending{kind: endLookUp, reason: unclear.Reason, after: unclear.Patience}, nil
	})
	switch {
	case err != nil:
		return nil, err
	case end.final():
		return nil, errFenced // the row, which was read after a doubt, shows that another worker has ended the key
	default:
		return a.callOnce(ctx, "find", f.find)
	}
}

// callsNext reports whether a foreign call is next for the key.
func (a *attempt) callsNext() bool {
	next, err := a.flow.after(a.key.RecoveryPoint)
	return err == nil && next.foreign != nil
}

// callTime returns how far ahead a transaction sets calling_until: far enough
// for a send that begins while the lease lasts, if a send follows.
func (a *attempt) callTime(calls bool) time.Duration {
	if !calls {
		return 0
	}
	return a.engine.config.Lease + a.engine.config.CallTimeout
}

// callOnce makes one foreign call with a deadline. That of a send lies inside
// the window, and before calling_until. A look-up may last longer than both: it
// sends nothing, and the fence shuts out what it found if somebody has decided
// meanwhile. The lease is renewed if the call lasts; if that can't be done, the
// call is given up.
func (a *attempt) callOnce(
	ctx context.Context, how string, call func(context.Context, Sent[string]) (any, error),
) (any, error) {
	watch := startStopwatch()
	left := a.windowLeft()
	limit := a.engine.config.FindTimeout
	if how == "do" {
		limit = min(a.engine.config.CallTimeout, left)
	}
	ctx, cancel := context.WithTimeout(a.withCaller(ctx, how, watch, limit), limit)
	defer cancel()
	a.engine.renewals.begin(a, cancel)
	result, err := catchPanic(func() (any, error) {
		return call(ctx, Sent[string]{
			Key: a.call.foreignKey, Form: a.call.form, FirstSentAt: a.call.firstSentAt,
			First: a.call.first, Ref: a.call.ref, WindowOver: left <= 0,
		})
	})
	if lost := a.engine.renewals.end(a); lost && err != nil {
		err = givenUp(err)
	}
	failed, certain := errors.AsType[*CallError](err)
	certain = certain && failed.Class == Transient
	a.call.first = a.call.first && certain // nothing was sent, so the next send is the first
	a.engine.metrics.observeCall(a.flow.name, how, err, watch.elapsed())
	if _, panicked := errors.AsType[*PanicError](err); err == nil || errors.Is(err, ErrNothingFound) || panicked {
		return result, err
	}
	if cause := context.Cause(ctx); errors.Is(cause, ErrAborted) {
		return nil, fmt.Errorf("%w: a foreign call was cut short", ErrAborted)
	}
	return nil, classify(err)
}

// windowLeft returns how much longer the form may be sent. It is judged by the
// database's clock, and can only be too short.
func (a *attempt) windowLeft() time.Duration {
	return a.engine.config.Window - a.clock.now().Sub(a.call.firstSentAt)
}

// nothingFound decides what follows when no earlier send left a trace. That is
// no proof that none got through, so nothing is ever sent again: the call is
// looked up once more later, or the key is parked.
func (a *attempt) nothingFound(ctx context.Context) (*ending, error) {
	reason := a.call.findReason
	// The patience is over if it was when the database told its time last, before
	// the look-up began. What appeared while that went on, it need not have seen.
	switch {
	case a.windowLeft() > 0 && (reason == "" || a.clock.at.Before(a.call.findUntil)):
		return nil, &CallError{Class: Unknown, Err: ErrNothingFound}
	case reason == "":
		reason = ReasonWindow
	}
	return a.transact(ctx, func(*Tx) (*ending, error) {
		return Park(reason, "no earlier send left a trace at the other side, which is no proof").ending, nil
	})
}
