package phases_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

// lookedUp returns a bundle with a key that was sent 21 hours ago, and booked,
// so that its next attempt looks it up.
func lookedUp(t *testing.T, options ...option) *bundle {
	t.Helper()
	b := setup(t, options...)
	_ = b.sendOnce(t, "k", hooks{after: lost})
	b.exec(t, `UPDATE idempotency_keys SET first_sent_at = now() - interval '21 hours'`)
	return b
}

// TestALookUpMayLastLongerThanACall: it has a time-out of its own, because it
// may read long lists. It keeps its lease, and neither the completer nor another
// client gets the key in the meantime.
func TestALookUpMayLastLongerThanACall(t *testing.T) {
	t.Parallel()
	short := func(c *phases.Config) { c.Lease, c.CallTimeout = 8*time.Second, time.Second }
	b := lookedUp(t, short)
	other, completer := b.newEngine(t, nil, short), b.completer(b.newEngine(t, nil, short))
	b.carrier.set(hooks{look: func(ctx context.Context) error {
		beside, stop := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() { defer close(done); completer.Run(beside) }()
		pgtest.Eventually(t, "the look-up has lasted 20 seconds", func() bool {
			if _, err := other.Run(ctx, b.flow, request("k")); !errors.Is(err, phases.ErrInUse) {
				t.Errorf("another client got %v, want ErrInUse", err)
				return true
			}
			return value[bool](t, b, `SELECT clock_timestamp() > claimed_at + interval '20 seconds' FROM idempotency_keys`)
		})
		stop()
		<-done
		return ctx.Err()
	}})
	epoch := b.show(t, "k").LeaseEpoch
	b.mustRun(t, "k")
	b.checkDone(t, "k")
	if got := b.show(t, "k"); got.LeaseEpoch != epoch+1 || b.carrier.found() != 1 {
		t.Errorf("it took %d claims and %d look-ups, want one of each", got.LeaseEpoch-epoch, b.carrier.found())
	}
}

// TestALookUpHasADeadline: one that never ends doesn't keep its worker.
func TestALookUpHasADeadline(t *testing.T) {
	t.Parallel()
	b := lookedUp(t, func(c *phases.Config) { c.FindTimeout = 50 * time.Millisecond })
	err := b.sendOnce(t, "k", hooks{look: func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Second):
			t.Error("the look-up had no deadline of its own")
			return errLost
		}
	}})
	if foreign, ok := errors.AsType[*phases.ForeignError](err); !ok || foreign.Class != phases.Unknown {
		t.Errorf("got %v, want an error that the result is unknown", err)
	}
}

// TestADecisionDoesNotWaitForALookUp: it sends nothing. What it finds after a
// person has decided changes nothing.
func TestADecisionDoesNotWaitForALookUp(t *testing.T) {
	t.Parallel()
	b := lookedUp(t)
	b.carrier.set(hooks{look: func(context.Context) error {
		if err := b.keys().Park(t.Context(), b.show(t, "k"), "ann"); err != nil {
			t.Error(err)
		}
		b.exec(t, `UPDATE idempotency_keys SET leased_until = now(), calling_until = now()`)
		if _, err := b.engine.Resolve(t.Context(), b.show(t, "k"), "ann", "not booked", notBooked); err != nil {
			t.Errorf("a decision during the look-up: %v", err)
		}
		return nil
	}})
	if got, err := b.run(t, "k"); err != nil || string(got.Answer.Body) != "not booked" || b.carrier.found() != 1 {
		t.Errorf("the look-up that found the booking answers %q, %v, want the decision", got.Answer.Body, err)
	}
	if got := value[string](t, b, `SELECT booking FROM parcels`); got != "none" {
		t.Errorf("the parcel's booking is %q, want what was decided", got)
	}
}
