package phases_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

func TestLookUpInsteadOfSending(t *testing.T) {
	t.Parallel()
	saved := func(patience time.Duration) func(context.Context, int) error {
		return func(context.Context, int) error {
			return &phases.CallError{Class: phases.LookUp, Err: errors.New("saved 500"), Reason: "saved_500", Patience: patience}
		}
	}

	t.Run("what is found is adopted in the same attempt", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.carrier.set(hooks{after: saved(time.Hour)})
		b.mustRun(t, "k")
		b.checkDone(t, "k")
		if len(b.carrier.sent()) != 1 || b.carrier.found() != 1 {
			t.Errorf("%d sends, %d look-ups; want 1 and 1", len(b.carrier.sent()), b.carrier.found())
		}
	})

	t.Run("what is not found is looked up again, never sent again, and parked when the patience ends", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		_ = b.sendOnce(t, "k", hooks{before: saved(time.Hour)})
		for range 3 {
			_ = b.sendOnce(t, "k", hooks{})
		}
		if len(b.carrier.sent()) != 1 || b.carrier.found() != 4 {
			t.Errorf("%d sends, %d look-ups; want 1 and 4", len(b.carrier.sent()), b.carrier.found())
		}
		b.exec(t, `UPDATE idempotency_keys SET find_until = now() - interval '1 second'`)
		if _, err := b.run(t, "k"); !errors.Is(err, phases.ErrParked) {
			t.Errorf("got %v, want ErrParked", err)
		}
		if got := b.show(t, "k").ParkedReason; got != "saved_500" {
			t.Errorf("parked for %q, want saved_500", got)
		}
		if got := value[string](t, b, `SELECT data->>'reason' FROM audit_records WHERE action = 'key.parked'`); got != "saved_500" {
			t.Errorf("the audit record says %q", got)
		}
	})

	t.Run("a look-up that began before the patience ended proves nothing", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		_ = b.sendOnce(t, "k", hooks{before: saved(time.Hour)})
		b.exec(t, `UPDATE idempotency_keys SET find_until = now() + interval '5 seconds'`)
		h := hooks{find: func(phases.Sent[bookingForm]) (booking, error) {
			pgtest.Eventually(t, "the time of the look-up is over", func() bool { return value[bool](t, b, `SELECT find_until < now() FROM idempotency_keys`) })
			return booking{}, phases.ErrNothingFound
		}}
		if err := b.sendOnce(t, "k", h); !errors.As(err, new(*phases.ForeignError)) {
			t.Errorf("got %v, want a ForeignError", err)
		}
		if _, err := b.run(t, "k"); !errors.Is(err, phases.ErrParked) {
			t.Errorf("the next look-up ends with %v, want ErrParked", err)
		}
	})

	t.Run("without patience it is parked at once", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		if err := b.sendOnce(t, "k", hooks{before: saved(0)}); !errors.Is(err, phases.ErrParked) {
			t.Errorf("got %v, want ErrParked", err)
		}
	})

	t.Run("a look-up that didn't see everything proves nothing", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		h := hooks{before: saved(0), find: func(phases.Sent[bookingForm]) (booking, error) { return booking{}, errLost }}
		if err := b.sendOnce(t, "k", h); !errors.As(err, new(*phases.ForeignError)) {
			t.Errorf("got %v, want a ForeignError", err)
		}
		if got := b.show(t, "k").ParkedReason; got != "" {
			t.Errorf("parked for %q", got)
		}
	})
}

// TestPatienceCountsFromTheFirstSend, and not from the first look-up.
func TestPatienceCountsFromTheFirstSend(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_ = b.sendOnce(t, "k", hooks{before: lost})
	b.exec(t, `UPDATE idempotency_keys SET first_sent_at = now() - interval '10 minutes'`)
	_ = b.sendOnce(t, "k", hooks{before: func(context.Context, int) error {
		return &phases.CallError{Class: phases.LookUp, Reason: "x", Err: errLost, Patience: time.Hour}
	}})
	got := b.show(t, "k")
	if got.FindUntil == nil || got.FindUntil.Sub(*got.FirstSentAt) != time.Hour {
		t.Errorf("looked up until %v after a first send at %v, want an hour later", got.FindUntil, got.FirstSentAt)
	}
}

// TestARefThatIsNotFoundIsLookedUpAgain: inside the window no key is parked
// because the other side does not show the ref that it gave.
func TestARefThatIsNotFoundIsLookedUpAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_ = b.sendOnce(t, "k", hooks{answer: "working"})
	_ = b.sendOnce(t, "k", hooks{find: func(phases.Sent[bookingForm]) (booking, error) {
		return booking{}, phases.ErrNothingFound
	}})
	if got := b.show(t, "k").ParkedReason; got != "" {
		t.Errorf("parked for %q inside the window", got)
	}
}

// TestACallBeginsWithoutTheTroubleOfTheLast: a ref, and the note that a call is
// only looked up, end with the call that they belong to.
func TestACallBeginsWithoutTheTroubleOfTheLast(t *testing.T) {
	t.Parallel()
	for mode, options := range map[string][]option{"fused": nil, "stepwise": {stepwise}} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			first, second := newCarrier(), newCarrier()
			b.flow = twoCalls(first, second)
			b.engine = b.newEngine(t, nil, append(options, func(c *phases.Config) { c.Flows = []phases.Flow{b.flow} })...)

			first.set(hooks{
				before: func(context.Context, int) error {
					return &phases.CallError{Class: phases.LookUp, Reason: "x", Err: errLost, Patience: time.Hour}
				},
				find: func(phases.Sent[bookingForm]) (booking, error) { return booking{Number: "R", Status: "working"}, nil },
			})
			_, _ = b.run(t, "k") // the first call is looked up, and waits under a ref
			first.set(hooks{find: func(phases.Sent[bookingForm]) (booking, error) { return booking{Status: "booked"}, nil }})
			second.set(hooks{before: lost})
			_, _ = b.run(t, "k") // the first call is done, the second is lost
			if got := b.show(t, "k"); got.RecoveryPoint != packed || got.ForeignRef != "" || got.FindReason != "" || got.FindUntil != nil {
				t.Errorf("the second call begins with %+v", got)
			}
			second.set(hooks{})
			if _, err := b.run(t, "k"); err != nil {
				t.Fatal(err)
			}
			if len(second.sent()) != 2 || second.found() != 0 {
				t.Errorf("the second call: %d sends, %d look-ups; want 2 and none", len(second.sent()), second.found())
			}
		})
	}
}

// twoCalls returns a flow of two foreign calls in a row.
func twoCalls(first, second *carrier) phases.Flow {
	call := func(c *carrier) phases.Call[bookingForm, booking] {
		return phases.Call[bookingForm, booking]{
			Prepare: c.prepare, Do: c.do, Find: c.find,
			Record: func(_ *phases.Tx, _ phases.Key, _ bookingForm, b booking) (phases.Outcome, error) {
				if b.Status == "working" {
					return phases.Wait(0, b.Number), nil
				}
				return phases.Advance(), nil
			},
		}
	}
	return phases.NewFlow("parcel", 1,
		phases.Foreign(packed, call(first)), phases.Foreign(booked, call(second)),
		phases.Atomic(phases.Finished, func(*phases.Tx, phases.Key) (phases.Outcome, error) {
			return phases.Finish(200, nil, []byte("ok")), nil
		}))
}
