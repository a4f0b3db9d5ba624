package phases

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"
)

// releaseTimeout bounds how long an attempt that ended takes to give its key
// back. When it can't, the lease ends by itself.
const releaseTimeout = 5 * time.Second

// An attempt is one claim of a key and what is done under it, by one goroutine.
type attempt struct {
	engine  *Engine
	flow    Flow
	request *Request // nil for the completer
	key     Key
	entry   entry
	token   string
	epoch   int64
	fused   bool
	// failures are those that counted towards parking before this attempt.
	failures int
	sent     sent
	// clock is the database's clock at the last statement that told it.
	clock clock
	known []any
}

// entry says how the next transaction gets hold of the row.
type entry int

const (
	entryHeld   entry = iota // the row is this attempt's: fence
	entryFresh               // there is no row: insert it
	entryParked              // the row is parked: take it
)

// sent is the foreign call that is next, as it is stored with the key.
type sent struct {
	key         string
	form        string
	ref         string
	firstSentAt time.Time
	findReason  string
	findUntil   time.Time
	// mine tells that this claim set firstSentAt, so no send came before it.
	mine bool
}

// begin is the first transaction of a new key.
func (a *attempt) begin(tx *Tx) (ending, error) {
	first := a.flow.phases[0]
	if first.foreign != nil {
		return a.freeze(tx, Started, first)
	}
	if !a.fused {
		return ending{kind: endAdvanced, point: Started}, nil
	}
	return a.compose(tx, first, first.atomic)
}

// compose queues the statements that take the key through phase, whose body is
// run, and, fused, through the atomic phases behind it. When a foreign call is
// next it is frozen in the same transaction, so that the intent commits with
// what led to it.
func (a *attempt) compose(tx *Tx, phase Phase, run AtomicFunc) (ending, error) {
	point := a.key.RecoveryPoint
	for {
		outcome, err := guarded(func() (Outcome, error) { return run(tx, a.key) })
		if err != nil {
			return ending{}, fmt.Errorf("phase to %s: %w", phase.point, err)
		}
		if outcome.kind != outcomeAdvance {
			return a.conclude(tx, outcome, point)
		}
		if phase.point == Finished {
			return ending{}, errNoAnswer
		}
		point = phase.point
		next, err := a.flow.after(point)
		if err != nil {
			return ending{}, err
		}
		if next.foreign != nil {
			return a.freeze(tx, point, next)
		}
		if !a.fused {
			return ending{kind: endAdvanced, point: point}, nil
		}
		phase, run = next, next.atomic
	}
}

// freeze prepares the foreign call that follows point.
func (a *attempt) freeze(tx *Tx, point string, next Phase) (ending, error) {
	key := ForeignKey(a.flow.name, next.point, a.key.Account, a.key.Key)
	var form string
	outcome, err := guarded(func() (outcome Outcome, err error) {
		form, outcome, err = next.foreign.prepare(tx, a.key, key)
		return outcome, err
	})
	if err != nil {
		return ending{}, fmt.Errorf("preparing the call to %s: %w", next.point, err)
	}
	if outcome.kind != outcomeAdvance {
		return a.conclude(tx, outcome, point)
	}
	return ending{kind: endAdvanced, point: point, foreignKey: &key, form: &form}, nil
}

// conclude ends the key's way at point, or lets it rest there.
func (a *attempt) conclude(tx *Tx, outcome Outcome, point string) (ending, error) {
	end, err := endingOf(outcome, point)
	if err == nil && end.kind == endParked {
		err = a.note(tx, "key.parked", map[string]string{"reason": end.reason})
	}
	return end, err
}

// note queues an audit record about the key.
func (a *attempt) note(tx *Tx, action string, data map[string]string) error {
	data["key"] = a.key.Key
	data["recovery_point"] = a.key.RecoveryPoint
	encoded, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("encoding audit record: %w", err)
	}
	tx.queue = append(tx.queue, audit(a.key.Account, action, string(encoded)))
	return nil
}

// run takes the key from where it stands to its end, one phase after another:
// the one loop in which handlers and the completer resume.
func (a *attempt) run(ctx context.Context) (ending, error) {
	for {
		end, err := a.local(ctx)
		if err != nil || end.final() {
			return end, err
		}
		if end, err = a.call(ctx); err != nil || end.final() {
			return end, err
		}
	}
}

// local runs atomic phases until a foreign call is next or the key is at its
// end.
func (a *attempt) local(ctx context.Context) (ending, error) {
	for {
		next, err := a.flow.after(a.key.RecoveryPoint)
		if err != nil || next.foreign != nil {
			return ending{kind: endAdvanced, point: a.key.RecoveryPoint}, err
		}
		end, err := a.commit(ctx, func(tx *Tx) (ending, error) {
			return a.compose(tx, next, next.atomic)
		})
		if err != nil || end.final() {
			return end, err
		}
	}
}

// apply moves the attempt to where a committed transaction left the key.
func (a *attempt) apply(end ending) {
	a.entry = entryHeld
	switch {
	case end.row != nil:
		a.adopt(&end.row.row, end.form != nil)
		// What the phases knew was lost with the answer; what they knew before
		// is out of date. From here on they read.
		a.known = nil
		return
	case end.kind == endNoted:
		a.sent.findReason, a.sent.findUntil = end.reason, a.sent.firstSentAt.Add(end.after)
		return
	case end.kind != endAdvanced:
		return
	}
	if a.key.CreatedAt.IsZero() {
		a.key.CreatedAt = a.clock.at
	}
	if end.point != a.key.RecoveryPoint {
		a.sent = sent{}
	}
	if end.form != nil {
		a.sent.key, a.sent.form = *end.foreignKey, *end.form
		a.sent.firstSentAt, a.sent.mine = a.clock.at, true
	}
	a.key.RecoveryPoint = end.point
	a.engine.metrics.points.WithLabelValues(a.flow.name, end.point).Inc()
}

// adopt takes the attempt's state from the key's row, as it was read after a
// doubt about a transaction that froze a call, or didn't.
func (a *attempt) adopt(r *row, froze bool) {
	a.epoch, a.failures = r.epoch, r.failures
	a.key = r.public()
	if a.request != nil {
		a.key.RequestID = a.request.RequestID
	}
	a.sent = sent{
		key: deref(r.foreignKey), form: deref(r.foreignForm), ref: deref(r.foreignRef),
		firstSentAt: deref(r.firstSentAt), findReason: deref(r.findReason), findUntil: deref(r.findUntil),
		mine: froze,
	}
}

// result is what an ending means to the caller.
func (a *attempt) result(ctx context.Context, end ending) (Result, error) {
	switch end.kind {
	case endFinished:
		if a.unattended() {
			a.engine.log.InfoContext(ctx, "finished", append(a.attrs(), slog.Int("status", end.answer.Status))...)
		}
		return Result{Answer: end.answer, Replayed: end.replayed, Key: a.key}, nil
	case endParked:
		a.parked(ctx, end)
		return Result{}, ErrParked
	case endReleased:
		return Result{}, &ForeignError{Class: Unknown, RetryAfter: end.after, Err: errors.New(end.reason)}
	case endBuried:
		return Result{}, ErrKeyExpired
	default:
		return Result{}, fmt.Errorf("attempt ended at %q without an end", end.point)
	}
}

// over is the ending that a row shows which is finished or parked.
func over(r *reading) (ending, error) {
	switch {
	case r.reapedAt != nil:
		return ending{kind: endBuried, point: Finished}, nil
	case r.finishedAt != nil:
		answer, err := r.answer()
		return ending{kind: endFinished, point: Finished, answer: answer}, err
	default:
		return ending{kind: endParked, point: r.point, reason: *r.parkedReason}, nil
	}
}

// attrs are what every log line about the key says.
func (a *attempt) attrs() []any {
	return []any{
		slog.String("account", a.key.Account), slog.String("key", a.key.Key), slog.String("flow", a.flow.name),
		slog.String("recovery_point", a.key.RecoveryPoint), slog.Int("attempt", a.key.Attempts),
		slog.String("request_id", a.key.RequestID),
	}
}

// guarded turns a panic into an error, so that a mistake in one phase costs one
// attempt and not the process.
func guarded[T any](run func() (T, error)) (result T, err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &PanicError{Value: value, Stack: debug.Stack()}
		}
	}()
	return run()
}
