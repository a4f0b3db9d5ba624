package phases_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/proof/wire"
)

// TestOneOfManyClaimersWins: clients and completers race for an abandoned key.
func TestOneOfManyClaimersWins(t *testing.T) {
	t.Parallel()
	b := setup(t)
	other := b.newEngine(t, nil)
	for round := range 30 {
		key := fmt.Sprint("k", round)
		b.carrier.set(hooks{before: func(context.Context, int) error { return errLost }})
		if _, err := b.run(t, key); err == nil {
			t.Fatal("the carrier answered")
		}
		b.carrier.set(hooks{})
		b.expire(t)
		sends := len(b.carrier.sent())
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() { _, _ = b.engine.Run(t.Context(), b.flow, request(key)) })
			group.Go(func() { _, _ = b.completer(other).Once(t.Context()) })
		}
		group.Wait()
		b.mustRun(t, key)
		b.checkDone(t, key)
		if got := len(b.carrier.sent()) - sends; got != 1 {
			t.Errorf("round %d: the carrier was asked %d times, want once", round, got)
		}
		if got := b.show(t, key).Attempts; got != 2 {
			t.Errorf("round %d: %d attempts, want 2", round, got)
		}
	}
}

// TestAKeyThatIsBeingInsertedIsInUse: an insert that waits too long for another
// transaction's insert of the same key is refused.
func TestAKeyThatIsBeingInsertedIsInUse(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tx, err := b.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	if _, err := tx.Exec(t.Context(), `INSERT INTO idempotency_keys (account_id, key, flow, flow_version, realm, request_id,
		method, path, request_hash, canon_version, params, recovery_point, lease_epoch, attempts)
		VALUES ('acct_1', 'k', 'parcel', 1, 'test', '', '', '', '', 1, '', 'started', 1, 1)`); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if _, err := b.run(t, "k"); !errors.Is(err, phases.ErrInUse) {
		t.Errorf("got %v after %s, want ErrInUse", err, time.Since(start))
	}
}

// TestEveryChangeOfTheHolderRaisesTheEpoch: claims and decisions compare the
// epoch that was read, so they would overlook a change that keeps it (I7).
func TestEveryChangeOfTheHolderRaisesTheEpoch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	epoch := func(after string, want int64) {
		t.Helper()
		if got := b.show(t, "k").LeaseEpoch; got != want {
			t.Errorf("after %s the epoch is %d, want %d", after, got, want)
		}
	}
	_ = b.sendOnce(t, "k", hooks{before: lost})
	epoch("a claim and a release", 2)
	b.carrier.set(hooks{answer: "odd"})
	_, _ = b.run(t, "k")
	b.carrier.set(hooks{})
	epoch("another claim and a park", 4)
	if err := b.keys().Retry(t.Context(), b.show(t, "k"), "ann"); err != nil {
		t.Fatal(err)
	}
	epoch("a retry", 5)
	if err := b.keys().Park(t.Context(), b.show(t, "k"), "ann"); err != nil {
		t.Fatal(err)
	}
	epoch("a park by a person", 6)
	if _, err := b.engine.Resolve(t.Context(), b.show(t, "k"), "ann", "no", notBooked); err != nil {
		t.Fatal(err)
	}
	epoch("a decision", 7)
}

// TestEachTransactionRenewsTheLease: the lease is shortened before each
// transaction, and must be long again when the carrier is asked.
func TestEachTransactionRenewsTheLease(t *testing.T) {
	t.Parallel()
	b := setup(t, stepwise, func(c *phases.Config) { c.Lease = time.Hour })
	b.mustRun(t, "warm")
	b.wire.Plan(func(n int, _ []byte) wire.Fault {
		if n >= 3 {
			b.exec(t, `UPDATE idempotency_keys SET leased_until = now() + interval '5 minutes' WHERE key = 'k' AND leased_until IS NOT NULL`)
		}
		return wire.Fault{}
	})
	check := func(before string) {
		if !value[bool](t, b, `SELECT leased_until > now() + interval '30 minutes' FROM idempotency_keys WHERE key = 'k'`) {
			t.Errorf("before %s the lease was not renewed", before)
		}
	}
	b.carrier.set(hooks{
		before: func(context.Context, int) error {
			check("the send")
			return &phases.CallError{Class: phases.LookUp, Reason: "x", Err: errLost}
		},
		find: func(phases.Sent[bookingForm]) (booking, error) {
			check("the look-up")
			return booking{Number: "B1", Status: "booked"}, nil
		},
	})
	b.mustRun(t, "k")
}

// TestALockedKeyIsInUse: a claim that waits too long for the row's lock is
// refused.
func TestALockedKeyIsInUse(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_ = b.sendOnce(t, "k", hooks{before: lost})
	defer b.lock(t)()
	if _, err := b.run(t, "k"); !errors.Is(err, phases.ErrInUse) {
		t.Errorf("got %v, want ErrInUse", err)
	}
}

// TestALockedTableIsNoKeyInUse: a lock time-out is "in use" only at the key's
// own row. A client that is told so waits for a request that isn't running.
func TestALockedTableIsNoKeyInUse(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(t *testing.T, b *bundle){
		"a new key":        func(*testing.T, *bundle) {},
		"an abandoned key": func(t *testing.T, b *bundle) { t.Helper(); _ = b.sendOnce(t, "k", hooks{before: lost}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			prepare(t, b)
			tx, err := b.pool.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback(t.Context()) }()
			// It lets others read, and nobody write.
			if _, err := tx.Exec(t.Context(), `LOCK TABLE idempotency_keys IN EXCLUSIVE MODE`); err != nil {
				t.Fatal(err)
			}
			if _, err := b.run(t, "k"); !errors.Is(err, phases.ErrUnavailable) || errors.Is(err, phases.ErrInUse) {
				t.Errorf("got %v, want ErrUnavailable", err)
			}
		})
	}
}
