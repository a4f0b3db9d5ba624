package phases

import (
	"context"
	"time"
)

// A Caller is what a foreign call is made for. Whatever limits calls to the
// other side shares the limit out by it.
type Caller struct {
	// Account is the key's.
	Account string
	// Background means that the completer makes the call, and not a client's
	// request.
	Background bool
	// MaySend reports whether the call may still be sent: a send may not be
	// made after the window, nor after the call's deadline, even if the
	// machine was suspended and the deadline's timer stood still. Do is called
	// in time, but if it waits before it sends, it asks again. nil means that
	// it may.
	MaySend func() bool
}

type callerKey struct{}

// CallerOf returns the caller of the foreign call that ctx belongs to. It is
// the zero Caller if there is none.
func CallerOf(ctx context.Context) Caller {
	caller, _ := ctx.Value(callerKey{}).(Caller)
	return caller
}

// WithCaller returns a context whose foreign calls are made for the caller, for
// calls that no attempt makes.
func WithCaller(ctx context.Context, caller Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, caller)
}

// withCaller returns the context of a foreign call that the attempt makes, and
// that may be sent until watch shows limit. how is "do" or "find"; a look-up may
// be made at any time.
func (a *attempt) withCaller(ctx context.Context, how string, watch stopwatch, limit time.Duration) context.Context {
	caller := Caller{Account: a.key.Account, Background: a.request == nil}
	if how == "do" {
		caller.MaySend = func() bool { return watch.elapsed() < limit }
	}
	return WithCaller(ctx, caller)
}
