package phases

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
)

// Request is what a client asked for.
type Request struct {
	// Account and Key identify the request: every retry has the same two.
	Account, Key string
	// RequestID identifies this arrival of the request, and is what its phases
	// see. The row keeps the id of the arrival that made the key.
	RequestID string
	// Method and Path are stored for people to read.
	Method, Path string
	// Params is the canonical form, by which the flow knows what was asked.
	Params string
	// CanonVersion is the version of that form.
	CanonVersion int
	// Hash returns the hash of the request under a version of the canonical
	// form, and false when it doesn't know that version. Two requests have the
	// same hash only if they are the same.
	Hash func(canonVersion int) ([]byte, bool)
	// Check validates a request whose key has no row. It runs after the row was
	// looked up, so that a later, stricter rule never contradicts an answer that
	// was given, and before anything is written, so that a refused request
	// leaves no key. The key may have had a row that was deleted: whoever refuses
	// must look for what it did before they call it new.
	Check func() error
	// Ask, if it is not nil, follows Check. It may take its time, because it asks
	// somebody else about what is requested. Meanwhile the request isn't one of
	// those that wait for the database: others would be refused on its account.
	Ask func() error
	// Async asks for Result.Pending as soon as a foreign call is next; the rest
	// is done in the background. A key that exists and is unfinished is Pending
	// also when this process can't claim it.
	Async bool
	// Trace is the request's trace in the form of [trace.Stored]. It is stored
	// with the key, for whoever works on it later. It may be empty.
	Trace string
	// Known are values that the phases would otherwise have to read; see the
	// function Known.
	Known []any

	hash  []byte
	visit visit
}

// Result is where a request stands.
type Result struct {
	// Answer is the definitive answer, unless Pending.
	Answer Answer
	// Replayed means that the answer was stored before this attempt.
	Replayed bool
	// Pending means that the request was accepted and goes on by itself.
	Pending bool
	// Key is the key as this process knows it.
	Key Key
}

// Run takes a request to its answer, or as far as it gets.
//
// A key that is finished is answered from its row: one round trip, nothing
// written. A new or abandoned key is claimed and run through the phases of its
// flow, on a context of its own: a caller who goes away does not stop it. flow
// is the flow of a new key; an existing key has its own. The errors are those
// of this package, those of Check and Ask, those of the phases, and ForeignError and
// PanicError. None of them is stored, and the same request may be made again.
func (e *Engine) Run(ctx context.Context, flow Flow, request Request) (Result, error) {
	defer request.visit.through()
	a, result, err := e.attemptFor(ctx, flow, &request)
	if a == nil {
		return result, err
	}
	return e.runAttempt(ctx, a)
}

// attemptFor returns the attempt that a request needs, or nil and what the
// request is answered without one.
func (e *Engine) attemptFor(ctx context.Context, flow Flow, request *Request) (*attempt, Result, error) {
	found, err := e.lookUp(ctx, keyID{request.Account, request.Key}, &request.visit)
	if err != nil {
		return nil, Result{}, err
	}
	if found == nil {
		if err := e.checkNew(request); err != nil {
			return nil, Result{}, err
		}
		var ok bool
		if request.hash, ok = request.Hash(request.CanonVersion); !ok {
			return nil, Result{}, fmt.Errorf("request cannot be hashed under its own version %d", request.CanonVersion)
		}
		return e.newAttempt(flow, request), Result{}, nil
	}
	result, err := e.answerFrom(found, request)
	if !errors.Is(err, errAbandoned) {
		return nil, result, err
	}
	flow, ok := e.flow(found.flow, found.version, found.realm)
	if !ok {
		result, err = request.refuse(found.asKey(), ErrUnknownVersion)
		return nil, result, err
	}
	return e.nextAttempt(flow, &found.row, request), Result{}, nil
}

// checkNew checks a request whose key has no row. What it asks for takes the time
// of somebody else, and not the database's, so the request isn't at the door then.
func (e *Engine) checkNew(request *Request) error {
	if err := request.Check(); err != nil || request.Ask == nil {
		return err
	}
	request.visit.through()
	if err := request.Ask(); err != nil {
		return err
	}
	return e.letIn(&request.visit)
}

// Look answers a request from its key's row, as Run would, and does nothing for
// it: a key that is unfinished and not parked is Pending. So it is for those
// who wait for a key that goes on by itself. The errors are those of Run, and
// ErrGone besides ErrUnavailable if the row was lost.
func (e *Engine) Look(ctx context.Context, request Request) (Result, error) {
	found, err := e.lookUp(ctx, keyID{request.Account, request.Key}, nil)
	switch {
	case err != nil:
		return Result{}, err
	case found == nil:
		return Result{}, asUnavailable(ErrGone)
	}
	request.Async = true
	result, err := e.answerFrom(found, &request)
	if errors.Is(err, errAbandoned) {
		return request.refuse(found.asKey(), err)
	}
	return result, err
}

// answerFrom answers the request from its key's row, in the order that the
// contract fixes: expired, reused, replayed, under review, in use. It returns
// errAbandoned when the row is unfinished and nobody holds it.
func (e *Engine) answerFrom(found *reading, r *Request) (Result, error) {
	if found.reapedAt != nil {
		return Result{}, ErrKeyExpired
	}
	hash, ok := r.Hash(found.canonVersion)
	if !ok {
		return Result{}, ErrUnknownVersion
	}
	if subtle.ConstantTimeCompare(hash, found.requestHash) != 1 {
		return Result{}, ErrKeyReused
	}
	switch {
	case found.finishedAt != nil:
		answer, err := found.storedAnswer()
		return Result{Answer: answer, Replayed: true, Key: found.asKey()}, err
	case found.parkedReason != nil:
		return Result{}, ErrParked
	case found.leased():
		return r.refuse(found.asKey(), inUse(found.leasedUntil.Sub(found.now), e.config.Lease, found.claimAge()))
	default:
		return Result{}, errAbandoned
	}
}

// refuse answers a request whose key is unfinished and not parked, and which
// can't claim it. An asynchronous request is answered that the key is pending,
// because it goes on by itself, whoever claims it.
func (r *Request) refuse(key Key, refusal error) (Result, error) {
	if r.Async {
		return Result{Pending: true, Key: key}, nil
	}
	return Result{}, refusal
}

// runAttempt runs an attempt to its end. An asynchronous request is answered at
// its first foreign call, and the rest runs in the background.
func (e *Engine) runAttempt(ctx context.Context, a *attempt) (Result, error) {
	ctx, leave, err := e.enter(ctx, a)
	if err != nil {
		return a.refuse(err)
	}
	goesOn := false
	defer func() { // also after a panic: the process must not go on holding the key
		if !goesOn {
			leave()
		}
	}()
	end, err := a.run(ctx, a.request != nil && a.request.Async)
	if err == nil && !end.final() {
		goesOn = true
		return a.goOn(ctx, leave), nil
	}
	return a.result(ctx, end, err)
}

// goOn runs the rest of an attempt in the background.
func (a *attempt) goOn(ctx context.Context, leave func()) Result {
	a.note(ctx)
	pending := Result{Pending: true, Key: a.key}
	go func() {
		defer leave()
		end, err := a.run(ctx, false)
		_, _ = a.result(ctx, end, err) // no caller waits; the row and the log show how it ended
	}()
	return pending
}

// result is what the end of an attempt means to its caller.
func (a *attempt) result(ctx context.Context, end *ending, err error) (Result, error) {
	a.note(ctx)
	switch {
	case errors.Is(err, errFenced):
		return a.fenced(ctx)
	case errors.Is(err, ErrInUse):
		return a.refuse(err)
	case err != nil:
		return Result{}, a.fail(ctx, err)
	}
	switch end.kind {
	case endFinished:
		if a.unattended() {
			a.engine.log.LogAttrs(ctx, slog.LevelInfo, "finished", a.attrs(ctx, slog.Int("status", end.answer.Status))...)
		}
		return Result{Answer: end.answer, Replayed: end.replayed, Key: a.key}, nil
	case endParked:
		a.reportParked(ctx, end)
		return Result{}, ErrParked
	case endReleased:
		if a.unattended() {
			a.engine.log.LogAttrs(ctx, slog.LevelInfo, "waiting", a.attrs(ctx, slog.String("cause", end.reason))...)
		}
		return Result{}, &ForeignError{Class: Unknown, Waiting: true, RetryAfter: end.after, Err: errors.New(end.reason)}
	case endExpired:
		return Result{}, ErrKeyExpired
	default:
		return Result{}, fmt.Errorf("the attempt stopped at %q without an answer", a.key.RecoveryPoint)
	}
}

// refuse ends an attempt that could not claim its key. A key that doesn't exist
// yet is not pending.
func (a *attempt) refuse(refusal error) (Result, error) {
	if a.request == nil || a.entry == entryInsert {
		return Result{}, refusal
	}
	return a.request.refuse(a.key, refusal)
}

// fenced ends an attempt whose key another worker holds or has held since. It
// writes nothing, releases nothing, and answers from the row.
func (a *attempt) fenced(ctx context.Context) (Result, error) {
	if a.request == nil && a.entry == entryClaim {
		return Result{}, errFenced // another completer was faster, as is usual
	}
	e := a.engine
	e.metrics.fenced.Inc()
	if a.request == nil {
		return Result{}, errFenced
	}
	e.log.LogAttrs(ctx, slog.LevelWarn, "fenced", a.attrs(ctx)...)
	found, err := e.read(context.WithoutCancel(ctx), a.id())
	if err != nil {
		return Result{}, err
	}
	if found == nil {
		return Result{}, asUnavailable(ErrGone)
	}
	result, err := e.answerFrom(found, a.request)
	if errors.Is(err, errAbandoned) {
		return a.request.refuse(found.asKey(), fmt.Errorf("%w: another worker claimed and released the key", ErrUnavailable))
	}
	return result, err
}
