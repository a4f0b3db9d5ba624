package phases_test

import (
	"context"
	"errors"
	"testing"

	"github.com/rocketrides/rocketrides/internal/phases"
)

func TestWhatIsSentIsFrozen(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if err := b.sendOnce(t, "k", hooks{after: lost}); !errors.As(err, new(*phases.ForeignError)) {
		t.Fatalf("got %v, want a ForeignError", err)
	}
	// A deploy changes the form of new keys; the retry sends what was frozen.
	b.carrier.set(hooks{tariff: "new"})
	b.mustRun(t, "k")
	b.checkDone(t, "k")
	b.mustRun(t, "later")
	sends := b.carrier.sent()
	if got, want := sends[1].form, "parcel=k"; got != want {
		t.Errorf("the retry sent %q, want %q", got, want)
	}
	if got, want := sends[2].form, "parcel=later&tariff=new"; got != want {
		t.Errorf("a new key sent %q, want %q", got, want)
	}
}

func TestTheForeignKeyIsStable(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_ = b.sendOnce(t, "k", hooks{after: lost})
	_ = b.sendOnce(t, "k", hooks{after: lost})
	// The row is lost in a fail-over, and a retry makes it again.
	b.unwatch(t)
	b.exec(t, `DELETE FROM idempotency_keys`)
	b.exec(t, `DELETE FROM parcels`)
	b.watch(t)
	b.mustRun(t, "k")
	b.checkDone(t, "k")
	sends := b.carrier.sent()
	for _, s := range sends {
		if s.key != sends[0].key || s.form != sends[0].form {
			t.Errorf("the same call was sent as %v and as %v", sends[0], s)
		}
	}
	if len(b.carrier.bookings) != 1 {
		t.Errorf("%d bookings were made, want 1", len(b.carrier.bookings))
	}
	if other := phases.ForeignKey("parcel", booked, "acct_1k", ""); other == phases.ForeignKey("parcel", booked, "acct_1", "k") {
		t.Error("different parts have the same foreign key")
	}
}

func TestFirstMeansThatNothingWasSentBefore(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_ = b.sendOnce(t, "k", hooks{after: lost})
	_ = b.sendOnce(t, "k", hooks{after: lost})
	sends := b.carrier.sent()
	if !sends[0].sent.First || sends[1].sent.First {
		t.Errorf("first: %v then %v, want true then false", sends[0].sent.First, sends[1].sent.First)
	}
	if sends[0].sent.FirstSentAt.IsZero() || !sends[0].sent.FirstSentAt.Equal(sends[1].sent.FirstSentAt) {
		t.Errorf("first sent at %s, then at %s", sends[0].sent.FirstSentAt, sends[1].sent.FirstSentAt)
	}
}

func TestFirstSentAtIsClearedIfNothingWasSent(t *testing.T) {
	t.Parallel()
	unsent := func(context.Context, int) error {
		return &phases.CallError{Class: phases.Transient, Err: errors.New("refused the connection")}
	}
	for name, test := range map[string]struct {
		earlier hooks
		cleared bool
	}{
		"nothing was sent before":      {earlier: hooks{before: unsent}, cleared: true},
		"something may have been sent": {earlier: hooks{before: lost}, cleared: false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			_ = b.sendOnce(t, "k", test.earlier)
			_ = b.sendOnce(t, "k", hooks{before: unsent})
			if got := b.show(t, "k").FirstSentAt == nil; got != test.cleared {
				t.Errorf("first_sent_at is cleared: %v, want %v", got, test.cleared)
			}
			if b.show(t, "k").ForeignForm == "" {
				t.Error("the form was cleared too")
			}
			b.mustRun(t, "k")
			b.checkDone(t, "k")
			last := b.carrier.sent()[2].sent
			if last.First != test.cleared || last.FirstSentAt.IsZero() {
				t.Errorf("the last send: first %v at %s", last.First, last.FirstSentAt)
			}
		})
	}
}
