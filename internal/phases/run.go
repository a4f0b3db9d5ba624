package phases

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
)

// Request is what a client asked for.
type Request struct {
	// Account and Key name the request for ever.
	Account, Key string
	// RequestID names this very arrival of it, and is what the phases see that
	// run for it. The row keeps the one that made the key.
	RequestID string
	// Method and Path are stored for people to read.
	Method, Path string
	// Params is the canonical form, by which the flow knows what was asked.
	Params string
	// CanonVersion is the version of that form.
	CanonVersion int
	// Hash returns the hash of the request under a version of the canonical
	// form; false when it doesn't know that version. The same request always
	// has the same hash, and different requests never do.
	Hash func(canonVersion int) ([]byte, bool)
	// Check validates a request whose key is new. It runs after the look-up, so
	// that a later, stricter rule never contradicts an answer already given,
	// and before anything is written, so that a refused request consumes no
	// key.
	Check func() error
	// Async asks for Result.Pending as soon as a foreign call is next, with the
	// rest done in the background. A key that exists and is unfinished is
	// Pending also while this process may not take it.
	Async bool
	// Known are values that the phases would otherwise have to read; see Known.
	Known []any

	hash []byte
}

// Result is how a request stands.
type Result struct {
	// Answer is the definitive answer, unless Pending.
	Answer Answer
	// Replayed tells that the answer was stored before this attempt.
	Replayed bool
	// Pending tells that the request was accepted and goes on by itself.
	Pending bool
	// Key is the key as this process knows it.
	Key Key
}

// Run takes a request to its answer, or as far as it gets.
//
// A key that is finished is answered from its row: one round trip, nothing
// written. A new or abandoned one is claimed and run through flow's phases, on
// a context of its own: a caller who goes away does not stop it. The errors are
// those of this package, those of Check, those of the phases, and ForeignError
// and PanicError; none of them is stored, and the same request may be made
// again.
func (e *Engine) Run(ctx context.Context, flow Flow, request Request) (Result, error) {
	hash, ok := request.Hash(request.CanonVersion)
	if !ok {
		return Result{}, fmt.Errorf("request cannot be hashed under its own version %d", request.CanonVersion)
	}
	request.hash = hash
	found, err := e.read(ctx, request.Account, request.Key)
	if err != nil {
		return Result{}, err
	}
	if found == nil {
		if err := request.Check(); err != nil {
			return Result{}, err
		}
		return e.start(ctx, flow, &request)
	}
	if result, err := e.look(found, &request); err != nil || result != nil {
		return deref(result), err
	}
	return e.takeOver(ctx, found, &request)
}

// look answers from a row, in the order that the contract fixes: expired,
// reused, replayed, under review, in use. It returns nil when the row is
// unfinished and in nobody's hands.
func (e *Engine) look(found *reading, request *Request) (*Result, error) {
	if found.reapedAt != nil {
		return nil, ErrKeyExpired
	}
	hash, ok := request.Hash(found.canonVersion)
	if !ok {
		return nil, ErrUnknownVersion
	}
	if subtle.ConstantTimeCompare(hash, found.requestHash) != 1 {
		return nil, ErrKeyReused
	}
	key := found.public()
	switch {
	case found.finishedAt != nil:
		answer, err := found.answer()
		return &Result{Answer: answer, Replayed: true, Key: key}, err
	case found.parkedReason != nil:
		return nil, ErrParked
	case found.leased() && request.Async:
		return &Result{Pending: true, Key: key}, nil
	case found.leased():
		return nil, ErrInUse
	}
	return nil, nil //nolint:nilnil // neither an answer nor a refusal: the row is free
}

// start runs a request whose key is new.
func (e *Engine) start(ctx context.Context, flow Flow, request *Request) (Result, error) {
	leave, err := e.enter()
	if err != nil {
		return Result{}, err
	}
	a := newAttempt(e, flow, request)
	return e.drive(ctx, a, leave, func(ctx context.Context) (ending, error) {
		return a.commit(ctx, a.begin)
	})
}

// takeOver runs a request whose key was abandoned.
func (e *Engine) takeOver(ctx context.Context, found *reading, request *Request) (Result, error) {
	flow, ok := e.flows[flowID{found.flow, found.version}]
	if !ok || found.realm != e.config.Realm {
		return untaken(found, request, ErrUnknownVersion)
	}
	leave, err := e.enter()
	if err != nil {
		return untaken(found, request, err)
	}
	a := newAttempt(e, flow, request)
	result, err := e.drive(ctx, a, leave, func(ctx context.Context) (ending, error) {
		return ending{kind: endAdvanced, point: found.point}, a.steal(ctx, &found.row)
	})
	if errors.Is(err, ErrInUse) {
		return untaken(found, request, err)
	}
	return result, err
}

// untaken answers from a row that is unfinished and not parked, and that this
// request doesn't get hold of. Who asked for Async asked how it stands, and it
// goes on by itself whoever takes it; who didn't learns why it was refused.
func untaken(found *reading, request *Request, refusal error) (Result, error) {
	if request.Async {
		return Result{Pending: true, Key: found.public()}, nil
	}
	return Result{}, refusal
}

// drive claims the key and runs the attempt to its end, or, for an asynchronous
// request, up to the first foreign call. It calls leave when the attempt is
// over.
func (e *Engine) drive(
	ctx context.Context, a *attempt, leave func(), claim func(context.Context) (ending, error),
) (Result, error) {
	ctx, cancel := e.detach(ctx)
	over := func() { cancel(); leave() }
	end, err := claim(ctx)
	if err == nil && !end.final() && a.request.Async {
		end, err = a.local(ctx)
		if err == nil && !end.final() {
			pending := Result{Pending: true, Key: a.key}
			go func() {
				defer over()
				end, err := a.run(ctx)
				_, _ = e.conclude(ctx, a, end, err) // the row and the log tell the rest
			}()
			return pending, nil
		}
	}
	defer over()
	if err == nil && !end.final() {
		end, err = a.run(ctx)
	}
	return e.conclude(ctx, a, end, err)
}

// conclude is what an attempt's end means to the caller.
func (e *Engine) conclude(ctx context.Context, a *attempt, end ending, err error) (Result, error) {
	switch {
	case err == nil:
		return a.result(ctx, end)
	case errors.Is(err, errFenced):
		return e.fenced(ctx, a)
	default:
		return Result{}, a.fail(ctx, err)
	}
}

// fenced is the end of an attempt whose row is somebody else's: write nothing,
// unlock nothing, answer from the row.
func (e *Engine) fenced(ctx context.Context, a *attempt) (Result, error) {
	e.metrics.fenced.Inc()
	e.log.WarnContext(ctx, "fenced", a.attrs()...)
	found, err := e.read(context.WithoutCancel(ctx), a.key.Account, a.key.Key)
	if err != nil {
		return Result{}, err
	}
	if found == nil {
		return Result{}, fmt.Errorf("%w: the key's row is gone", ErrUnavailable)
	}
	result, err := e.look(found, a.request)
	if err != nil || result != nil {
		return deref(result), err
	}
	return untaken(found, a.request, fmt.Errorf("%w: the key was taken over and given back", ErrUnavailable))
}

// detach returns a context that the caller's end does not end: the client does
// not own the request, and a context that dies during COMMIT makes a doubt.
// Only Shutdown ends it.
func (e *Engine) detach(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(e.aborted, func() { cancel(ErrAborted) })
	return ctx, func() { stop(); cancel(nil) }
}
