package phases_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// sendOnce makes one attempt whose call ends with err, and returns what Run
// returned.
func (b *bundle) sendOnce(t *testing.T, key string, h hooks) error {
	t.Helper()
	b.carrier.set(h)
	_, err := b.run(t, key)
	b.carrier.set(hooks{})
	if err == nil {
		t.Fatal("the attempt succeeded")
	}
	return err
}

func lost(context.Context, int) error { return errLost }

func TestWhatIsSentIsFrozen(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if err := b.sendOnce(t, "k", hooks{after: lost}); !errors.As(err, new(*phases.ForeignError)) {
		t.Fatalf("got %v, want a ForeignError", err)
	}
	// A deploy changes what would be sent; the retry sends what was frozen.
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
	// The row is lost in a fail-over, and the retry makes it again.
	b.exec(t, `ALTER TABLE idempotency_keys DISABLE TRIGGER watch_key`)
	b.exec(t, `DELETE FROM idempotency_keys`)
	b.exec(t, `DELETE FROM parcels`)
	b.exec(t, `ALTER TABLE idempotency_keys ENABLE TRIGGER watch_key`)
	b.mustRun(t, "k")
	b.checkDone(t, "k")
	sends := b.carrier.sent()
	for _, s := range sends {
		if s.key != sends[0].key || s.form != sends[0].form {
			t.Errorf("one call was sent as %v and as %v", sends[0], s)
		}
	}
	if len(b.carrier.bookings) != 1 {
		t.Errorf("%d bookings were made, want 1", len(b.carrier.bookings))
	}
	if other := phases.ForeignKey("parcel", booked, "acct_1k", ""); other == phases.ForeignKey("parcel", booked, "acct_1", "k") {
		t.Error("the parts of a foreign key run together")
	}
}

func TestFirstTellsThatNothingWasSentBefore(t *testing.T) {
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

func TestAClaimThatKnowsThatNothingLeftTakesItsTimeBack(t *testing.T) {
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
				t.Error("the form is not frozen any more")
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

func TestNothingIsSentAfterTheWindow(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		booked bool
		age    string
		check  func(t *testing.T, b *bundle, err error)
	}{
		"inside the window it is sent again": {
			age: "19 hours 59 minutes", booked: true,
			check: func(t *testing.T, b *bundle, err error) {
				t.Helper()
				if err != nil || len(b.carrier.sent()) != 2 || b.carrier.found() != 0 {
					t.Errorf("%v: %d sends, %d look-ups; want 2 and none", err, len(b.carrier.sent()), b.carrier.found())
				}
			},
		},
		"past the window it is looked up and adopted": {
			age: "20 hours", booked: true,
			check: func(t *testing.T, b *bundle, err error) {
				t.Helper()
				if err != nil || len(b.carrier.sent()) != 1 || b.carrier.found() != 1 {
					t.Errorf("%v: %d sends, %d look-ups; want 1 and 1", err, len(b.carrier.sent()), b.carrier.found())
				}
				b.checkDone(t, "k")
			},
		},
		"past the window what isn't found is parked": {
			age: "20 hours",
			check: func(t *testing.T, b *bundle, err error) {
				t.Helper()
				if !errors.Is(err, phases.ErrParked) || len(b.carrier.sent()) != 1 {
					t.Errorf("%v after %d sends, want ErrParked after 1", err, len(b.carrier.sent()))
				}
				if got := b.show(t, "k").ParkedReason; got != "window_over" {
					t.Errorf("parked for %q", got)
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			h := hooks{before: lost}
			if test.booked {
				h = hooks{after: lost}
			}
			_ = b.sendOnce(t, "k", h)
			b.exec(t, `UPDATE idempotency_keys SET first_sent_at = now() - $1::interval`, test.age)
			_, err := b.run(t, "k")
			test.check(t, b, err)
		})
	}
}

func TestASendIsBoundedByTheWindow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_ = b.sendOnce(t, "k", hooks{before: lost})
	b.exec(t, `UPDATE idempotency_keys SET first_sent_at = now() - interval '20 hours' + interval '2 seconds'`)
	var left time.Duration
	_ = b.sendOnce(t, "k", hooks{before: func(ctx context.Context, _ int) error {
		deadline, _ := ctx.Deadline()
		left = time.Until(deadline)
		return errLost
	}})
	if left <= 0 || left > 2*time.Second {
		t.Errorf("a call two seconds before the end of the window had %s", left)
	}
}

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

	t.Run("what isn't found is looked up again, never sent again, and parked when patience ends", func(t *testing.T) {
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

func TestOutcomes(t *testing.T) {
	t.Parallel()

	t.Run("a refusal is an answer, and is replayed", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.carrier.set(hooks{answer: "refused"})
		for _, replayed := range []bool{false, true} {
			result, err := b.run(t, "k")
			if err != nil || result.Answer.Status != 402 || result.Replayed != replayed {
				t.Errorf("got %d replayed=%v, %v", result.Answer.Status, result.Replayed, err)
			}
		}
		if got := len(b.carrier.sent()); got != 1 {
			t.Errorf("%d sends, want 1", got)
		}
	})

	t.Run("what the other side still works on is looked up by its name", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.carrier.set(hooks{answer: "working"})
		var waiting *phases.ForeignError
		if _, err := b.run(t, "k"); !errors.As(err, &waiting) {
			t.Fatalf("got %v, want a ForeignError", err)
		}
		var ref string
		b.carrier.set(hooks{find: func(sent phases.Sent[bookingForm]) (booking, error) {
			ref = sent.Ref
			return booking{Number: sent.Ref, Status: "booked"}, nil
		}})
		b.expire(t)
		if counts := b.complete(t); counts.Finished != 1 {
			t.Errorf("the completer did %+v", counts)
		}
		if ref != "B1" || len(b.carrier.sent()) != 1 {
			t.Errorf("looked up %q after %d sends, want B1 after 1", ref, len(b.carrier.sent()))
		}
		b.checkDone(t, "k")
	})

	t.Run("what only a person can tell is parked, with its audit record", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.carrier.set(hooks{answer: "odd"})
		for range 2 {
			if _, err := b.run(t, "k"); !errors.Is(err, phases.ErrParked) {
				t.Errorf("got %v, want ErrParked", err)
			}
		}
		got := b.show(t, "k")
		if got.ParkedReason != "odd_booking" || got.RecoveryPoint != packed || got.Leased {
			t.Errorf("parked as %+v", got)
		}
		if n := value[int](t, b, `SELECT count(*) FROM audit_records WHERE action = 'key.parked'`); n != 1 {
			t.Errorf("%d audit records, want 1", n)
		}
	})

	for name, outcome := range map[string]phases.Outcome{
		"finish": phases.Finish(409, nil, []byte("no")),
		"park":   phases.Park("early", ""),
		"wait":   phases.Wait(0, ""),
	} {
		t.Run("the first phase may "+name+" before anything is sent", func(t *testing.T) {
			t.Parallel()
			for _, options := range [][]option{nil, {stepwise}} {
				b := setup(t, options...)
				b.carrier.set(hooks{pack: func(tx *phases.Tx, key phases.Key) (*phases.Outcome, error) {
					tx.Queue(`INSERT INTO parcels (account_id, key, writes) VALUES ($1, $2, 1)`, key.Account, key.Key)
					return &outcome, nil
				}})
				_, err := b.run(t, "k")
				got := b.show(t, "k")
				if finished := got.FinishedAt != nil; finished != (name == "finish") || finished != (err == nil) {
					t.Errorf("finished: %v, %v", finished, err)
				}
				if parked := got.ParkedReason == "early"; parked != (name == "park") {
					t.Errorf("parked: %q", got.ParkedReason)
				}
				if n := value[int](t, b, `SELECT count(*) FROM parcels`); n != 1 || len(b.carrier.sent()) != 0 {
					t.Errorf("%d parcels, %d sends; want 1 and none", n, len(b.carrier.sent()))
				}
			}
		})
	}
}

func TestAKeyThatLivedBeforeHasExpired(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]option{"fused": nil, "stepwise": {stepwise}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, options...)
			b.exec(t, `INSERT INTO parcels (account_id, key, writes) VALUES ('acct_1', 'k', 1)`)
			for range 2 {
				if _, err := b.run(t, "k"); !errors.Is(err, phases.ErrKeyExpired) {
					t.Errorf("got %v, want ErrKeyExpired", err)
				}
			}
			if n := value[int](t, b, `SELECT count(*) FROM idempotency_keys WHERE reaped_at IS NULL`); n != 0 || len(b.carrier.sent()) != 0 {
				t.Errorf("%d keys came to life with %d sends", n, len(b.carrier.sent()))
			}
		})
	}
}

// TestNoTransactionIsOpenDuringACall asks the server, at the moment of the call.
func TestNoTransactionIsOpenDuringACall(t *testing.T) {
	t.Parallel()
	for _, options := range [][]option{nil, {stepwise}} {
		b := setup(t, options...)
		check := func(context.Context, int) error {
			if n := value[int](t, b, `SELECT count(*) FROM pg_stat_activity
				WHERE datname = current_database() AND state LIKE 'idle in transaction%'`); n != 0 {
				t.Errorf("%d sessions are idle in transaction while the carrier is asked", n)
			}
			return nil
		}
		b.carrier.set(hooks{before: check})
		b.mustRun(t, "k")
	}
}
