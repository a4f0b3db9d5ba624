package phases

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/rocketrides/rocketrides/internal/trace"
)

// An attempt is one claim of a key and what is done under it, by one goroutine.
type attempt struct {
	engine *Engine
	flow   Flow
	// realm is the row's. Engine.enter sets that of a key that doesn't exist yet.
	realm   string
	request *Request // nil for the completer and for an operator
	key     Key
	// from is the recovery point from which the attempt starts.
	from  string
	entry entry
	token string
	epoch int64
	// fused makes phases share a transaction; see the package's comment.
	fused bool
	// claiming means that the attempt counts among those that claim its key.
	claiming bool
	// failures are those that counted towards parking before this attempt.
	failures int
	// call is the foreign call that is next.
	call storedCall
	// othersCall is calling_until as the claim found it: until when sends of
	// earlier claims may be under way.
	othersCall *time.Time
	// held is what the engine's renewals know of a call that is on its way.
	held heldCall
	// callPoint and callKey are what foreignKey has computed.
	callPoint, callKey string
	// clock is the database's clock at the last statement that told it.
	clock clock
	// known is what Known finds.
	known []any
}

// entry says how the attempt gets hold of the row.
type entry int

const (
	entryHeld   entry = iota // the attempt holds it
	entryInsert              // there is no row: the first transaction inserts it
	entryClaim               // nobody holds the row: it is claimed, in a commit of its own
	entryUnpark              // the row is parked: the first transaction claims it
)

// A storedCall is the foreign call that is next, as it is stored with the key.
type storedCall struct {
	foreignKey  string
	form        string
	ref         string
	firstSentAt time.Time
	findReason  string
	findUntil   time.Time
	// first means that this claim set firstSentAt, so nothing was sent before.
	first bool
}

// newAttempt returns an attempt at a key that doesn't exist yet.
func (e *Engine) newAttempt(flow Flow, request *Request) *attempt {
	return &attempt{
		engine:  e,
		flow:    flow,
		request: request,
		entry:   entryInsert,
		token:   uuid.NewString(),
		epoch:   1,
		fused:   !e.config.Stepwise,
		known:   append(make([]any, 0, 4), request.Known...), // and what the phases tell each other
		from:    Started,
		key: Key{
			Account: request.Account, Key: request.Key, RequestID: request.RequestID, Params: request.Params,
			Trace: request.Trace, Async: request.Async, RecoveryPoint: Started, Attempts: 1,
		},
	}
}

// nextAttempt returns an attempt at a key that an earlier one left behind. It
// is stepwise, for a client as for the completer: what it gets done is durable
// point by point, even if a later phase always fails.
func (e *Engine) nextAttempt(flow Flow, seen *row, request *Request) *attempt {
	a := &attempt{
		engine: e, flow: flow, realm: seen.realm, request: request, entry: entryClaim, token: uuid.NewString(), from: seen.point,
	}
	if request != nil {
		a.known = slices.Clip(request.Known)
	}
	a.adopt(seen, false)
	a.othersCall = seen.callingUntil
	return a
}

// run claims the key and takes it from where it stands to its end, one phase
// after another. It is the one loop in which requests and the completer go on.
// With untilCall, it stops when a foreign call is next.
func (a *attempt) run(ctx context.Context, untilCall bool) (*ending, error) {
	end, err := a.claim(ctx)
	for err == nil && !end.final() {
		var next Phase
		if next, err = a.flow.after(a.key.RecoveryPoint); err != nil {
			return nil, err
		}
		switch {
		case next.foreign == nil:
			end, err = a.runPhase(ctx, next)
		case untilCall:
			return end, nil
		default:
			end, err = a.makeCall(ctx, next)
		}
	}
	return end, err
}

// claim gets hold of the key, unless the attempt holds it already. The row of a
// new key is inserted by its first transaction; fused, phases follow in the
// same one.
func (a *attempt) claim(ctx context.Context) (*ending, error) {
	switch a.entry {
	case entryInsert:
		return a.runPhase(ctx, Atomic(Started, func(*Tx, Key) (Outcome, error) { return Advance(), nil }))
	case entryClaim:
		return a.stay(), a.claimRow(ctx)
	default:
		return a.stay(), nil
	}
}

// runPhase runs an atomic phase in one transaction; fused, together with the
// atomic phases that follow.
func (a *attempt) runPhase(ctx context.Context, phase Phase) (*ending, error) {
	return a.transact(ctx, func(tx *Tx) (*ending, error) { return a.compose(tx, phase) })
}

// compose queues the statements of an atomic phase and, fused, those of the
// atomic phases that follow. If a foreign call is next then, it is frozen in
// the same transaction, so that the intent commits with what led to it.
func (a *attempt) compose(tx *Tx, phase Phase) (*ending, error) {
	for {
		end, err := decide(func() (Outcome, error) { return phase.atomic(tx, a.key) })
		if err != nil {
			return nil, fmt.Errorf("phase to %s: %w", phase.point, err)
		}
		if end.kind != endAdvanced {
			return end, nil
		}
		if phase.point == Finished {
			return nil, errNoAnswer
		}
		next, err := a.flow.after(phase.point)
		switch {
		case err != nil:
			return nil, err
		case next.foreign != nil:
			return a.freeze(tx, phase.point, next)
		case !a.fused:
			return &ending{kind: endAdvanced, point: phase.point}, nil
		}
		phase = next
	}
}

// freeze prepares the foreign call that starts from point, in the transaction
// that reaches point.
func (a *attempt) freeze(tx *Tx, point string, next Phase) (*ending, error) {
	key := a.foreignKey(next)
	var form string
	end, err := decide(func() (outcome Outcome, err error) {
		form, outcome, err = next.foreign.prepare(tx, a.key, key)
		return outcome, err
	})
	if err != nil {
		return nil, fmt.Errorf("preparing the call to %s: %w", next.point, err)
	}
	if end.kind == endAdvanced {
		end = &ending{kind: endAdvanced, point: point, foreignKey: &key, form: &form, calls: true}
	}
	return end, nil
}

// decide runs the code of a phase and returns what it decided.
func decide(run func() (Outcome, error)) (*ending, error) {
	outcome, err := catchPanic(run)
	if err == nil && outcome.ending == nil {
		err = errNoOutcome
	}
	return outcome.ending, err
}

// id names the attempt's key.
func (a *attempt) id() keyID { return keyID{a.key.Account, a.key.Key} }

// stay is the ending that leaves the key where it stands.
func (a *attempt) stay() *ending { return &ending{kind: endAdvanced, point: a.key.RecoveryPoint} }

// adopt takes the attempt's state from the key's row. froze means that the
// attempt's own transaction has just frozen the call that the row shows.
func (a *attempt) adopt(r *row, froze bool) {
	a.epoch, a.failures = r.epoch, r.failures
	a.key = r.asKey()
	if a.request != nil {
		a.key.RequestID = a.request.RequestID
	}
	a.call = storedCall{
		foreignKey: orZero(r.foreignKey), form: orZero(r.foreignForm), ref: orZero(r.foreignRef),
		firstSentAt: orZero(r.firstSentAt), findReason: orZero(r.findReason), findUntil: orZero(r.findUntil),
		first: froze,
	}
}

// traced returns the context of the attempt: with the trace of the request that
// made the key, whoever makes the attempt, and with what every line in the log
// says that is logged during it.
func (a *attempt) traced(ctx context.Context) context.Context {
	ctx = trace.FromStored(ctx, a.key.Trace)
	if trace.LineOf(ctx) == nil {
		ctx, _ = trace.Begin(ctx)
	}
	return trace.With(ctx, slog.String("account", a.key.Account), slog.String("key", a.key.Key),
		slog.String("request_id", a.key.RequestID))
}

// note says in the line of the request or the attempt how far the key has come.
func (a *attempt) note(ctx context.Context) {
	trace.LineOf(ctx).Set(
		slog.String("flow", a.flow.name), slog.String("recovery_point_from", a.from),
		slog.String("recovery_point", a.key.RecoveryPoint), slog.Int("attempt", a.key.Attempts))
}

// attrs are what the log says about an attempt.
func (a *attempt) attrs(ctx context.Context, more ...slog.Attr) []slog.Attr {
	a.note(ctx)
	attrs := []slog.Attr{
		slog.String("account", a.key.Account), slog.String("key", a.key.Key), slog.String("request_id", a.key.RequestID),
	}
	return slices.Concat(attrs, trace.LineOf(ctx).Attrs(), more)
}

// catchPanic turns a panic into an error, so that a mistake in one phase costs
// one attempt and not the process.
func catchPanic[T any](run func() (T, error)) (result T, err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &PanicError{Value: value, Stack: debug.Stack()}
		}
	}()
	return run()
}
