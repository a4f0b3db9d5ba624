package phases_test

import (
	"context"
	"errors"
	"testing"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// TestAnUnparkedKeyIsLookedUp: what is found is adopted, and nothing is sent
// again, although the window isn't over.
func TestAnUnparkedKeyIsLookedUp(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		find   func(phases.Sent[bookingForm]) (booking, error)
		status int
		parked string
	}{
		"something is found": {func(phases.Sent[bookingForm]) (booking, error) { return booking{Number: "B9", Status: "booked"}, nil }, 201, ""},
		"nothing is found":   {func(phases.Sent[bookingForm]) (booking, error) { return booking{}, phases.ErrNothingFound }, 0, "odd_booking"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.carrier.set(hooks{answer: "odd"})
			_, _ = b.run(t, "k")
			seen := b.show(t, "k")
			if err := b.keys().Unpark(t.Context(), seen, "event 1"); err != nil {
				t.Fatal(err)
			}
			if n := value[int](t, b, `SELECT count(*) FROM audit_records WHERE action = 'key.unparked' AND data->>'by' = 'event 1' AND data->>'was' = 'odd_booking'`); n != 1 {
				t.Errorf("%d audit records", n)
			}
			b.carrier.set(hooks{find: c.find})
			b.complete(t)
			if sends, finds := len(b.carrier.sent()), b.carrier.found(); sends != 1 || finds != 1 {
				t.Errorf("after being unparked it was sent %d times in all and looked up %d times, want once each", sends, finds)
			}
			if got := b.show(t, "k"); got.Status != c.status || got.ParkedReason != c.parked {
				t.Errorf("the key is %+v", got)
			}
			if err := b.keys().Unpark(t.Context(), seen, "event 1"); c.parked == "" && !errors.Is(err, phases.ErrChanged) {
				t.Errorf("unparking a key that has changed: %v, want ErrChanged", err)
			}
		})
	}
}

func TestAKeyThatIsNotUnparked(t *testing.T) {
	t.Parallel()
	b := setup(t)
	// Its last worker may still be calling.
	asleep, wake := make(chan struct{}), make(chan struct{})
	b.carrier.set(hooks{after: func(context.Context, int) error { close(asleep); <-wake; return nil }})
	done := make(chan error, 1)
	go func() {
		_, err := b.engine.Run(context.WithoutCancel(t.Context()), b.flow, request("k"))
		done <- err
	}()
	<-asleep
	if err := b.keys().Park(t.Context(), b.show(t, "k"), "ann"); err != nil {
		t.Fatal(err)
	}
	if err := b.keys().Unpark(t.Context(), b.show(t, "k"), "event 1"); !errors.Is(err, phases.ErrChanged) {
		t.Errorf("while the last worker may be calling: %v, want ErrChanged", err)
	}
	close(wake)
	if err := <-done; !errors.Is(err, phases.ErrParked) {
		t.Errorf("the worker got %v, want ErrParked", err)
	}
	// Nothing was ever frozen, so there is nothing to look up.
	b.carrier.set(hooks{pack: func(*phases.Tx, phases.Key) (*phases.Outcome, error) {
		return new(phases.Park("odd_parcel", "")), nil
	}})
	_, _ = b.run(t, "unfrozen")
	if err := b.keys().Unpark(t.Context(), b.show(t, "unfrozen"), "event 1"); !errors.Is(err, phases.ErrChanged) {
		t.Errorf("before its call: %v, want ErrChanged", err)
	}
	b.carrier.set(hooks{})
	b.mustRun(t, "finished")
	if err := b.keys().Unpark(t.Context(), b.show(t, "finished"), "event 1"); !errors.Is(err, phases.ErrNotParked) {
		t.Errorf("a finished key: %v, want ErrNotParked", err)
	}
}

// TestANudgeDisturbsNobody: a key that waits is looked at now, and a worker
// that holds its key finishes it.
func TestANudgeDisturbsNobody(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.carrier.set(hooks{answer: "working"})
	_, _ = b.run(t, "waiting")
	b.exec(t, `UPDATE idempotency_keys SET run_after = now() + interval '1 hour'`)
	b.carrier.set(hooks{find: func(phases.Sent[bookingForm]) (booking, error) { return booking{Number: "B1", Status: "booked"}, nil }})
	if counts := b.complete(t); counts.Finished != 0 {
		t.Fatalf("a key that isn't due was completed: %+v", counts)
	}
	if err := b.keys().Nudge(t.Context(), b.show(t, "waiting")); err != nil {
		t.Fatal(err)
	}
	if counts := b.complete(t); counts.Finished != 1 {
		t.Errorf("after a nudge the completer did %+v", counts)
	}

	asleep, wake := make(chan struct{}), make(chan struct{})
	b.carrier.set(hooks{after: func(context.Context, int) error { close(asleep); <-wake; return nil }})
	done := make(chan error, 1)
	go func() {
		_, err := b.engine.Run(context.WithoutCancel(t.Context()), b.flow, request("held"))
		done <- err
	}()
	<-asleep
	held := b.show(t, "held")
	if err := b.keys().Nudge(t.Context(), held); err != nil {
		t.Fatal(err)
	}
	if counts := b.complete(t); counts.Finished+counts.Lost != 0 {
		t.Errorf("the completer took a held key: %+v", counts)
	}
	close(wake)
	if err := <-done; err != nil {
		t.Errorf("the worker was disturbed: %v", err)
	}
	b.checkDone(t, "held")
}

func TestWhenTheWindowIsOver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.carrier.set(hooks{answer: "odd"})
	_, _ = b.run(t, "k")
	for _, c := range []struct {
		sentAt string
		over   bool
	}{
		{"now()", false},
		{"now() - interval '19 hours 59 minutes'", false},
		{"now() - interval '20 hours'", true},
		{"NULL", false}, // it was never sent
	} {
		b.exec(t, `UPDATE idempotency_keys SET first_sent_at = `+c.sentAt)
		if over, err := b.engine.WindowOver(t.Context(), b.show(t, "k")); err != nil || over != c.over {
			t.Errorf("first sent at %s: %t, %v", c.sentAt, over, err)
		}
	}
}
