package phases_test

import (
	"context"
	"errors"
	"testing"

	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/proof/wire"
)

// asyncRun runs an asynchronous request.
func (b *bundle) asyncRun(t *testing.T, key string) (phases.Result, error) {
	t.Helper()
	asked := request(key)
	asked.Async = true
	return b.engine.Run(t.Context(), b.flow, asked)
}

// TestAnAsyncRetryOfAnUnfinishedKeyIsPending: an asynchronous retry is answered
// Pending also by a process that must not go on with the key. That holds for no
// other retry, and for no key that is new, parked or finished.
func TestAnAsyncRetryOfAnUnfinishedKeyIsPending(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		option  option // of the process that is asked
		prepare func(t *testing.T, b *bundle)
		refusal error
	}{
		"paused": {option: func(c *phases.Config) { c.Paused = []string{"parcel"} }, refusal: phases.ErrPaused},
		"draining": {
			prepare: func(_ *testing.T, b *bundle) { b.engine.Drain() }, refusal: phases.ErrDraining,
		},
		"busy": {
			option: func(c *phases.Config) { c.MaxInFlight = 1 }, prepare: occupy, refusal: phases.ErrBusy,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.mustRun(t, "done")
			_ = b.sendOnce(t, "open", hooks{before: lost})
			_ = b.sendOnce(t, "parked", hooks{before: lost})
			if err := b.keys().Park(t.Context(), b.show(t, "parked"), "ann"); err != nil {
				t.Fatal(err)
			}
			option := test.option
			if option == nil {
				option = func(*phases.Config) {}
			}
			b.engine = b.newEngine(t, nil, option)
			if test.prepare != nil {
				test.prepare(t, b)
			}
			before := b.snapshot(t, "open")
			if got, err := b.asyncRun(t, "open"); err != nil || !got.Pending || got.Key.Key != "open" {
				t.Errorf("an async retry got %+v, %v; want pending", got, err)
			}
			if after := b.snapshot(t, "open"); after != before {
				t.Errorf("the retry changed the key from %s to %s", before, after)
			}
			if _, err := b.run(t, "open"); !errors.Is(err, test.refusal) {
				t.Errorf("a synchronous retry got %v, want %v", err, test.refusal)
			}
			if _, err := b.asyncRun(t, "new"); !errors.Is(err, test.refusal) {
				t.Errorf("a new key got %v, want %v", err, test.refusal)
			}
			if _, err := b.asyncRun(t, "parked"); !errors.Is(err, phases.ErrParked) {
				t.Errorf("a parked key got %v, want ErrParked", err)
			}
			if got, err := b.asyncRun(t, "done"); err != nil || !got.Replayed {
				t.Errorf("a finished key got %+v, %v; want its answer", got, err)
			}
		})
	}
}

// occupy fills the engine's only slot until the test ends.
func occupy(t *testing.T, b *bundle) {
	t.Helper()
	reached, leave, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	b.carrier.set(hooks{before: func(context.Context, int) error { close(reached); <-leave; return nil }})
	go func() {
		defer close(done)
		if _, err := b.engine.Run(context.WithoutCancel(t.Context()), b.flow, request("occupant")); err != nil {
			t.Errorf("the occupant got %v", err)
		}
	}()
	<-reached
	t.Cleanup(func() { close(leave); <-done })
}

func TestAnAsyncRetryOfAKeyOfAnotherVersionIsPending(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_ = b.sendOnce(t, "k", hooks{before: lost})
	b.exec(t, `UPDATE idempotency_keys SET flow_version = 2`)
	if got, err := b.asyncRun(t, "k"); err != nil || !got.Pending {
		t.Errorf("an async retry got %+v, %v; want pending", got, err)
	}
	if _, err := b.run(t, "k"); !errors.Is(err, phases.ErrUnknownVersion) {
		t.Errorf("a synchronous retry got %v, want ErrUnknownVersion", err)
	}
}

// TestAnAsyncRetryOfALockedKeyIsPending: another transaction holds the row's
// lock for longer than a claim waits.
func TestAnAsyncRetryOfALockedKeyIsPending(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_ = b.sendOnce(t, "k", hooks{before: lost})
	defer b.lock(t)()
	if got, err := b.asyncRun(t, "k"); err != nil || !got.Pending {
		t.Errorf("an async retry got %+v, %v; want pending", got, err)
	}
}

// TestAnAsyncRetryThatLosesTheClaimIsPending: between its read and its claim
// another worker claimed the key and released it.
func TestAnAsyncRetryThatLosesTheClaimIsPending(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_ = b.sendOnce(t, "k", hooks{before: lost})
	b.wire.Plan(wire.On(2, wire.Fault{Kind: wire.HoldBefore, Hold: func() {
		b.exec(t, `UPDATE idempotency_keys SET lease_epoch = lease_epoch + 1`)
	}}))
	if got, err := b.asyncRun(t, "k"); err != nil || !got.Pending {
		t.Errorf("an async retry got %+v, %v; want pending", got, err)
	}
}
