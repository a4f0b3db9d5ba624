package phases_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/proof/wire"
)

// short makes leases much shorter than calls may be.
func short(c *phases.Config) { c.Lease, c.CallTimeout = 8*time.Second, 40*time.Second }

// TestALongCallKeepsItsLease: a call that takes more than two leases is answered in its
// first request, and neither the completer nor another client gets the key in
// the meantime.
func TestALongCallKeepsItsLease(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]option{
		"all accounts together": {short}, "one account at a time": {short, func(c *phases.Config) { c.OneAccount = true }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, options...)
			other, completer := b.newEngine(t, nil, options...), b.completer(b.newEngine(t, nil, options...))
			b.carrier.set(hooks{before: func(ctx context.Context, _ int) error {
				beside, stop := context.WithCancel(ctx)
				done := make(chan struct{})
				go func() { defer close(done); completer.Run(beside) }()
				pgtest.Eventually(t, "the call has lasted 20 seconds", func() bool {
					if _, err := other.Run(ctx, b.flow, request("k")); !errors.Is(err, phases.ErrInUse) {
						t.Errorf("another client got %v, want ErrInUse", err)
						return true
					}
					return value[bool](t, b, `SELECT clock_timestamp() > created_at + interval '20 seconds' FROM idempotency_keys`)
				})
				stop()
				<-done
				return ctx.Err()
			}})
			b.mustRun(t, "k")
			b.checkDone(t, "k")
			if got := b.show(t, "k"); got.LeaseEpoch != 1 || got.Attempts != 1 || len(b.carrier.sent()) != 1 {
				t.Errorf("it took %d attempts, and epoch %d; sent %d times", got.Attempts, got.LeaseEpoch, len(b.carrier.sent()))
			}
		})
	}
}

// TestACallWithoutItsLeaseIsGivenUp: a call whose lease can't be renewed ends
// when the lease does. Nobody knows what came of it. A call beside it, whose
// lease can be renewed, goes on. The leases are aged, so that a busy machine
// can't end that of the call beside.
func TestACallWithoutItsLeaseIsGivenUp(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]string{
		"another worker has claimed the key": `lease_token = '00000000-0000-4000-8000-000000000001', lease_epoch = lease_epoch + 1`,
		"the key has moved":                  `recovery_point = 'booked'`,
		"a person has parked the key":        `lease_token = NULL, lease_epoch = lease_epoch + 1, parked_reason = 'operator'`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const lease, mostOfIt = 10 * time.Minute, 6 * time.Minute
			b := setup(t, func(c *phases.Config) { c.Lease, c.CallTimeout = lease, 2*lease })
			beside := make(chan struct{})
			b.carrier.set(hooks{before: func(ctx context.Context, n int) error {
				if n == 1 {
					<-beside
					return ctx.Err()
				}
				b.exec(t, `UPDATE idempotency_keys SET `+set+` WHERE key = 'k'`)
				until := value[time.Time](t, b, `SELECT leased_until FROM idempotency_keys WHERE key = 'k'`)
				b.engine.AgeLeases(mostOfIt)
				b.engine.RenewAll()
				if b.engine.LookAtCalls(); ctx.Err() != nil {
					t.Error("the call was given up before its lease had ended")
				}
				b.engine.AgeLeases(mostOfIt)
				if b.engine.LookAtCalls(); !errors.Is(ctx.Err(), context.Canceled) {
					t.Errorf("when its lease has ended, the call has ended by %v, want it given up", ctx.Err())
				}
				if got := value[time.Time](t, b, `SELECT leased_until FROM idempotency_keys WHERE key = 'k'`); !got.Equal(until) {
					t.Errorf("the lease was renewed to %s, from %s", got, until)
				}
				return ctx.Err()
			}})
			done := make(chan error, 1)
			go func() {
				_, err := b.engine.Run(context.WithoutCancel(t.Context()), b.flow, request("beside"))
				done <- err
			}()
			pgtest.Eventually(t, "the call beside is on its way", func() bool { return len(b.carrier.sent()) == 1 })
			before := value[time.Time](t, b, `SELECT leased_until FROM idempotency_keys WHERE key = 'beside'`)
			_, err := b.run(t, "k")
			if foreign, ok := errors.AsType[*phases.ForeignError](err); !ok || foreign.Class != phases.Unknown {
				t.Errorf("the call that was given up: %v, want one of which nobody knows", err)
			}
			if got := value[time.Time](t, b, `SELECT leased_until FROM idempotency_keys WHERE key = 'beside'`); !got.After(before) {
				t.Error("the lease beside it was not renewed")
			}
			close(beside)
			if err := <-done; err != nil {
				t.Errorf("the call beside it was given up: %v", err)
			}
		})
	}
}

// TestALockedRowHoldsUpNoOther: its own lease is left to the next renewal, and
// no other.
func TestALockedRowHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	b := setup(t)
	release := make(chan struct{})
	b.carrier.set(hooks{before: func(context.Context, int) error { <-release; return nil }})
	done := make(chan error, 2)
	for _, key := range []string{"locked", "other"} {
		go func() {
			_, err := b.engine.Run(context.WithoutCancel(t.Context()), b.flow, request(key))
			done <- err
		}()
	}
	pgtest.Eventually(t, "both calls are on their way", func() bool { return len(b.carrier.sent()) == 2 })
	b.exec(t, `UPDATE idempotency_keys SET leased_until = now() + interval '5 seconds'`)
	renewed := func() string {
		b.engine.RenewAll()
		return value[string](t, b, `SELECT coalesce(string_agg(key, ' ' ORDER BY key), '') FROM idempotency_keys
			WHERE leased_until > now() + interval '10 seconds'`)
	}
	tx, err := b.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT FROM idempotency_keys WHERE account_id = 'acct_1' AND key = 'locked' FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	if got := renewed(); got != "other" {
		t.Errorf("while a row is locked, the leases of %q are renewed, want that of the other", got)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := renewed(); got != "locked other" {
		t.Errorf("after that, the leases of %q are renewed, want both", got)
	}
	close(release)
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestACallIsGivenUpWhileTheDatabaseIsAway: nothing can be renewed then. The
// key is finished when the database is back, and booked once.
func TestACallIsGivenUpWhileTheDatabaseIsAway(t *testing.T) {
	t.Parallel()
	for _, kind := range []wire.Kind{wire.CutBefore, wire.HoldBefore} {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			b := setup(t, short)
			back := make(chan struct{})
			b.carrier.set(hooks{after: func(ctx context.Context, n int) error {
				if n > 1 {
					return nil
				}
				b.wire.Plan(func(int, []byte) wire.Fault { return wire.Fault{Kind: kind, Hold: func() { <-back }} })
				<-ctx.Done()
				if !errors.Is(ctx.Err(), context.Canceled) {
					t.Errorf("the call ended by %v, want it given up", ctx.Err())
				}
				return ctx.Err()
			}})
			if _, err := b.run(t, "k"); err == nil {
				t.Error("the request was answered")
			}
			b.wire.Plan(wire.Nothing)
			close(back)
			pgtest.Eventually(t, "a completer has finished the key", func() bool { return b.complete(t).Finished == 1 })
			b.checkDone(t, "k")
			if got := len(b.carrier.bookings); got != 1 {
				t.Errorf("%d bookings, want 1", got)
			}
		})
	}
}

// TestAThousandLeasesAreRenewedTogether: with one statement, or with one for
// each account.
func TestAThousandLeasesAreRenewedTogether(t *testing.T) {
	t.Parallel()
	pgtest.NotOnCitus(t, "it counts statements with a trigger")
	for name, test := range map[string]struct {
		oneAccount bool
		statements int
	}{"all accounts together": {false, 1}, "one account at a time": {true, 5}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const calls = 1000
			registry := prometheus.NewRegistry()
			b := setup(t, func(c *phases.Config) {
				c.Lease, c.CallTimeout, c.OneAccount, c.Metrics = 5*time.Minute, 10*time.Minute, test.oneAccount, registry
			})
			release := make(chan struct{})
			b.carrier.set(hooks{before: func(context.Context, int) error { <-release; return nil }})
			var group sync.WaitGroup
			var ended atomic.Int32
			for i := range calls {
				if i%50 == 0 { // a few at a time, so that none is refused at the door
					pgtest.Eventually(t, "the call before is on its way", func() bool { return len(b.carrier.sent()) == i })
				}
				group.Go(func() {
					r := request(fmt.Sprint("k", i))
					r.Account = fmt.Sprint("acct_", i%5)
					defer ended.Add(1)
					if _, err := b.engine.Run(t.Context(), b.flow, r); err != nil {
						t.Error(err)
					}
				})
			}
			pgtest.Eventually(t, "all calls are on their way", func() bool { return len(b.carrier.sent()) == calls })
			if got := b.engine.RenewAll(); got != calls {
				t.Errorf("%d calls are on their way, want %d", got, calls)
			}
			const renewals = ` FROM phase_log WHERE token = old_token AND from_point = to_point`
			if got := value[int](t, b, `SELECT count(DISTINCT xid)`+renewals); got != test.statements {
				t.Errorf("%d statements have renewed leases, want %d", got, test.statements)
			}
			if got := value[int](t, b, `SELECT count(DISTINCT key)`+renewals); got != calls {
				t.Errorf("%d leases were renewed, want %d", got, calls)
			}
			if got := counter(t, registry, "phases_renewed_leases_total"); got != calls {
				t.Errorf("the metric shows %v renewals", got)
			}
			for i := range calls {
				if i%50 == 0 { // a few at a time, so that each gets a connection in time
					pgtest.Eventually(t, "the call before has ended", func() bool { return int(ended.Load()) == i })
				}
				release <- struct{}{}
			}
			group.Wait()
		})
	}
}

// TestShortCallsRenewNothing: most calls end before half of their lease is
// gone.
func TestShortCallsRenewNothing(t *testing.T) {
	t.Parallel()
	pgtest.NotOnCitus(t, "it counts changes with a trigger")
	b := setup(t)
	b.mustRun(t, "k")
	if got := value[int](t, b, `SELECT count(*) FROM phase_log WHERE key = 'k'`); got != 2 {
		t.Errorf("the key was changed %d times, want 2", got)
	}
	if got := b.engine.RenewAll(); got != 0 {
		t.Errorf("%d calls are still looked after", got)
	}
}

// TestACallBeginsWithTimeToRenew: if most of the lease is gone before the call,
// because the commit before it was slow, the lease is renewed first.
func TestACallBeginsWithTimeToRenew(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *phases.Config) { c.Lease = 8 * time.Second })
	b.sleepAfterInsert(t, `created_at + interval '4200 ms'`)
	b.carrier.set(hooks{before: func(context.Context, int) error {
		b.wire.Plan(wire.Nothing)
		if !value[bool](t, b, `SELECT leased_until > created_at + interval '12 seconds' AND calling_until > created_at + interval '16 seconds' FROM idempotency_keys`) {
			t.Error("the call begins with the rest of a lease")
		}
		return nil
	}})
	b.mustRun(t, "k")
	b.checkDone(t, "k")
}

// TestADecisionWaitsForTheCall: while a send that has begun may be under way,
// nobody decides that nothing was done, although its lease has ended.
func TestADecisionWaitsForTheCall(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ resumed, steals bool }{
		"of a new key": {}, "of a key that was resumed": {resumed: true},
		"of a worker that has lost its key to one that has given up": {steals: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, stepwise)
			if test.resumed {
				_ = b.sendOnce(t, "k", hooks{before: lost})
				if got := b.show(t, "k"); got.Calling || got.CallingUntil != nil {
					t.Errorf("after a call that has ended the key shows %+v", got)
				}
			}
			b.carrier.set(hooks{before: func(_ context.Context, n int) error {
				b.exec(t, `UPDATE idempotency_keys SET leased_until = now() WHERE key = 'k'`)
				if test.steals && n == 1 {
					if _, err := b.newEngine(t, nil).Run(t.Context(), b.flow, request("k")); err == nil {
						t.Error("the call of the other worker succeeded")
					}
				} else if test.steals {
					return errLost
				}
				if err := b.keys().Park(t.Context(), b.show(t, "k"), "ann"); err != nil {
					t.Error(err)
				}
				seen := b.show(t, "k")
				if seen.Leased || !seen.Calling {
					t.Errorf("during the call the key is leased: %t, calling: %t", seen.Leased, seen.Calling)
				}
				if _, err := b.engine.Resolve(t.Context(), seen, "ann", "not booked", notBooked); !errors.Is(err, phases.ErrStillCalling) {
					t.Errorf("a decision during the call: %v, want ErrStillCalling", err)
				}
				seen.Calling = false // as somebody sees it who has read the row too soon
				if _, err := b.engine.Resolve(t.Context(), seen, "ann", "not booked", notBooked); !errors.Is(err, phases.ErrChanged) {
					t.Errorf("a decision during the call: %v, want ErrChanged", err)
				}
				if err := b.keys().Unpark(t.Context(), seen, "event 1"); !errors.Is(err, phases.ErrChanged) {
					t.Errorf("unparking during the call: %v, want ErrChanged", err)
				}
				return errLost
			}})
			if _, err := b.run(t, "k"); err == nil {
				t.Error("the call succeeded")
			}
			b.exec(t, `UPDATE idempotency_keys SET calling_until = now()`)
			if _, err := b.engine.Resolve(t.Context(), b.show(t, "k"), "ann", "not booked", notBooked); err != nil {
				t.Errorf("a decision after the call: %v", err)
			}
		})
	}
}

// TestRetryAfterGrowsWithTheClaim: it is the age of the claim that counts, and
// not that of the last renewal.
func TestRetryAfterGrowsWithTheClaim(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_ = b.sendOnce(t, "k", hooks{before: lost})
	ask := func() time.Duration {
		_, err := b.newEngine(t, nil).Run(t.Context(), b.flow, request("k"))
		busy, ok := errors.AsType[*phases.InUseError](err)
		if !ok {
			t.Fatalf("got %v, want ErrInUse", err)
		}
		return busy.RetryAfter
	}
	b.carrier.set(hooks{before: func(context.Context, int) error {
		if got := ask(); got > 6*time.Second {
			t.Errorf("after the claim it is %s", got)
		}
		b.exec(t, `UPDATE idempotency_keys SET claimed_at = now() - interval '12 seconds'`)
		if got := ask(); got < 9*time.Second || got > 16*time.Second {
			t.Errorf("12 seconds after the claim it is %s, want 9s", got)
		}
		return nil
	}})
	b.mustRun(t, "k")
}
