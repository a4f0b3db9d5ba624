package phases_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/proof/wire"
)

func TestNothingIsSentAfterTheWindow(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		booked bool
		age    string
		check  func(t *testing.T, b *bundle, err error)
	}{
		"inside the window, it is sent again": {
			age: "19 hours 59 minutes", booked: true,
			check: func(t *testing.T, b *bundle, err error) {
				t.Helper()
				if err != nil || len(b.carrier.sent()) != 2 || b.carrier.found() != 0 {
					t.Errorf("%v: %d sends, %d look-ups; want 2 and none", err, len(b.carrier.sent()), b.carrier.found())
				}
			},
		},
		"past the window, it is looked up and adopted": {
			age: "20 hours", booked: true,
			check: func(t *testing.T, b *bundle, err error) {
				t.Helper()
				if err != nil || len(b.carrier.sent()) != 1 || b.carrier.found() != 1 {
					t.Errorf("%v: %d sends, %d look-ups; want 1 and 1", err, len(b.carrier.sent()), b.carrier.found())
				}
				b.checkDone(t, "k")
			},
		},
		"past the window, what is not found is parked": {
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
	b := setup(t, func(c *phases.Config) { c.CallTimeout = 10 * time.Minute })
	_ = b.sendOnce(t, "k", hooks{before: lost})
	b.exec(t, `UPDATE idempotency_keys SET first_sent_at = now() - interval '20 hours' + interval '1 minute'`)
	var left time.Duration
	_ = b.sendOnce(t, "k", hooks{before: func(ctx context.Context, _ int) error {
		deadline, _ := ctx.Deadline()
		left = time.Until(deadline)
		return errLost
	}})
	if left <= 0 || left > time.Minute {
		t.Errorf("a call a minute before the end of the window had %s", left)
	}
}

// TestFindIsToldThatTheWindowIsOver: from then on Find may do what would be
// wrong while a send could still come, and the key is parked if nothing is
// found.
func TestFindIsToldThatTheWindowIsOver(t *testing.T) {
	t.Parallel()
	for age, over := range map[string]bool{"20 hours": true, "1 hour": false} {
		t.Run(age, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			_ = b.sendOnce(t, "k", hooks{before: lost})
			b.exec(t, `UPDATE idempotency_keys
				SET first_sent_at = now() - $1::interval, find_reason = 'x', find_until = now() + interval '1 year'`, age)
			var told bool
			_ = b.sendOnce(t, "k", hooks{find: func(sent phases.Sent[bookingForm]) (booking, error) {
				told = sent.WindowOver
				return booking{}, phases.ErrNothingFound
			}})
			if told != over {
				t.Errorf("Find got WindowOver %v, want %v", told, over)
			}
			if parked := b.show(t, "k").ParkedReason != ""; parked != over {
				t.Errorf("parked: %v, want %v", parked, over)
			}
		})
	}
}

// TestACallHasADeadline: a carrier that never answers doesn't keep its worker.
func TestACallHasADeadline(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *phases.Config) { c.CallTimeout = 50 * time.Millisecond })
	_ = b.sendOnce(t, "k", hooks{before: func(ctx context.Context, _ int) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Second):
			t.Error("the call had no deadline of its own")
			return errLost
		}
	}})
}

// sleepAfterInsert holds the answer to the COMMIT that inserts the key until the
// database's clock is past a time, which is an expression over its row.
func (b *bundle) sleepAfterInsert(t *testing.T, until string) {
	t.Helper()
	slept := false
	b.wire.Plan(func(int, []byte) wire.Fault {
		return wire.Fault{Kind: wire.HoldAfter, Hold: func() {
			if slept || !value[bool](t, b, `SELECT EXISTS (SELECT 1 FROM idempotency_keys)`) {
				return
			}
			slept = true
			pgtest.Eventually(t, "the window is over", func() bool {
				return value[bool](t, b, `SELECT clock_timestamp() > `+until+` FROM idempotency_keys`)
			})
		}}
	})
}

// TestTheWindowGoesOnWhileAWorkerSleeps: a worker that sleeps between the
// commit and the send until the window is over must not send, although it
// doesn't read the row again.
func TestTheWindowGoesOnWhileAWorkerSleeps(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *phases.Config) { c.CallTimeout, c.Window = 100*time.Millisecond, 500*time.Millisecond })
	b.sleepAfterInsert(t, `first_sent_at + interval '600 ms'`)
	if _, err := b.run(t, "k"); !errors.Is(err, phases.ErrParked) || len(b.carrier.sent()) != 0 {
		t.Errorf("%v after %d sends, want it parked unsent", err, len(b.carrier.sent()))
	}
}

// TestACallKnowsWhoItIsFor: limits are shared out by it, and a call that waits
// before it sends learns whether it is still inside the window.
func TestACallKnowsWhoItIsFor(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *phases.Config) { c.CallTimeout, c.Window = time.Second, 10*time.Second })
	var callers []phases.Caller
	note := hooks{before: func(ctx context.Context, _ int) error {
		callers = append(callers, phases.CallerOf(ctx))
		return errLost
	}}
	_ = b.sendOnce(t, "k", hooks{before: func(ctx context.Context, n int) error {
		caller := phases.CallerOf(ctx)
		if !caller.MaySend() {
			t.Error("a call is made after the window")
		}
		pgtest.Eventually(t, "the caller may not send any more", func() bool { return !caller.MaySend() })
		return note.before(ctx, n)
	}})
	b.exec(t, `UPDATE idempotency_keys SET first_sent_at = NULL`)
	b.expire(t)
	b.carrier.set(note)
	b.complete(t)
	if len(callers) != 2 {
		t.Fatalf("%d calls were made, want 2", len(callers))
	}
	for i, caller := range callers {
		if caller.Account != "acct_1" || caller.Background != (i == 1) {
			t.Errorf("call %d is for %q, in the background: %v", i+1, caller.Account, caller.Background)
		}
	}
	if caller := phases.CallerOf(t.Context()); caller.Account != "" || caller.MaySend != nil {
		t.Errorf("without a call there is the caller %+v", caller)
	}
}
