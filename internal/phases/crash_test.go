package phases_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/wire"
)

// TestEveryCut cuts the connection to Postgres at each message in turn, before
// the server sees it, after it has acted, and in between; lets a client, the
// completer, or both go on; and checks that everything happened once. Nobody
// names the places: the last k is the one that a run passes uncut.
func TestEveryCut(t *testing.T) {
	t.Parallel()
	modes := map[string][]option{"fused": nil, "stepwise": {stepwise}}
	for mode, options := range modes {
		for _, kind := range []wire.Kind{wire.CutBefore, wire.CutAfter, wire.CutSent} {
			for _, recovery := range []string{"client", "completer", "both"} {
				t.Run(fmt.Sprintf("%s/%s/%s", mode, kind, recovery), func(t *testing.T) {
					t.Parallel()
					b := setup(t, options...)
					b.mustRun(t, "warm")
					for k := 1; ; k++ {
						key := fmt.Sprint("k", k)
						b.wire.Plan(wire.On(k, wire.Fault{Kind: kind}))
						_, err := b.run(t, key)
						uncut := b.wire.Messages() < k
						b.wire.Plan(wire.Nothing)
						b.recover(t, recovery, key)
						b.checkDone(t, key)
						if t.Failed() {
							t.Fatalf("after %s at message %d, which was answered with %v", kind, k, err)
						}
						if uncut {
							if k < 4 {
								t.Fatalf("only %d messages were cut", k-1)
							}
							return
						}
					}
				})
			}
		}
	}
}

// recover brings a key to its end after a fault, in one of three ways.
func (b *bundle) recover(t *testing.T, how, key string) {
	t.Helper()
	b.expire(t)
	switch how {
	case "client":
		b.mustRun(t, key)
	case "completer":
		b.complete(t)
		b.mustRun(t, key) // a key that the fault kept from being made at all
	case "both":
		var group sync.WaitGroup
		completer := b.completer(b.newEngine(t, nil))
		group.Go(func() { _, _ = completer.Once(t.Context()) })
		group.Go(func() { _, _ = b.engine.Run(t.Context(), b.flow, request(key)) })
		group.Wait()
		b.expire(t)
		b.mustRun(t, key)
	}
}

// TestLostAnswersAreResolvedWithinTheAttempt: after a commit whose answer was
// lost the attempt finds out by itself, and writes a barrier before it goes on.
func TestLostAnswersAreResolvedWithinTheAttempt(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		message  int
		kind     wire.Kind
		barriers int
	}{
		"the first commit happened":         {message: 2, kind: wire.CutAfter, barriers: 1},
		"the first commit didn't happen":    {message: 2, kind: wire.CutBefore, barriers: 1},
		"the last commit happened":          {message: 3, kind: wire.CutAfter, barriers: 1},
		"the last commit didn't happen":     {message: 3, kind: wire.CutBefore, barriers: 1},
		"the look-up's answer was lost":     {message: 1, kind: wire.CutAfter},
		"the look-up never left the client": {message: 1, kind: wire.CutBefore},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.mustRun(t, "warm")
			b.wire.Plan(wire.On(test.message, wire.Fault{Kind: test.kind}))
			b.mustRun(t, "k")
			b.checkDone(t, "k")
			if got := value[int](t, b, `SELECT count(*) FROM audit_records WHERE action = 'key.barrier'`); got != test.barriers {
				t.Errorf("%d barriers were written, want %d", got, test.barriers)
			}
			if got := len(b.carrier.sent()); got != 2 {
				t.Errorf("the carrier was asked %d times for two keys", got)
			}
		})
	}
}

// TestACommitThatShowsLate: the row doesn't show the transaction when it is read
// again, because the server still works on it. The same transaction then runs
// beside its own earlier self, and only one of the two may write.
func TestACommitThatShowsLate(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.mustRun(t, "warm")
	var blocker pgx.Tx
	b.wire.Plan(func(n int, _ []byte) wire.Fault {
		switch n {
		case 3: // the record: it is sent, but the row is locked, so it can't commit yet
			var err error
			if blocker, err = b.pool.Begin(t.Context()); err != nil {
				t.Error(err)
			}
			if _, err := blocker.Exec(t.Context(), `SELECT FROM idempotency_keys WHERE key = 'k' FOR UPDATE`); err != nil {
				t.Error(err)
			}
			return wire.Fault{Kind: wire.CutSent}
		case 5: // the second run: let both go on, the first one first
			waitForLock(t, b)
			if err := blocker.Rollback(t.Context()); err != nil {
				t.Error(err)
			}
			waitFor(t, func() bool {
				return value[string](t, b, `SELECT recovery_point FROM idempotency_keys WHERE key = 'k'`) == phases.Finished
			})
		}
		return wire.Fault{}
	})
	b.mustRun(t, "k")
	b.checkDone(t, "k")
}

// waitForLock waits until a session of this database waits for a lock.
func waitForLock(t *testing.T, b *bundle) {
	t.Helper()
	waitFor(t, func() bool {
		return value[int](t, b, `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock'`) > 0
	})
}

// TestZombies: a worker sleeps past its lease at each of its messages, before the
// server sees it or after it has acted, and wakes when another has stolen the
// key, or has even finished it. It must change nothing.
func TestZombies(t *testing.T) {
	t.Parallel()
	for mode, options := range map[string][]option{"fused": nil, "stepwise": {stepwise}} {
		for _, kind := range []wire.Kind{wire.HoldBefore, wire.HoldAfter} {
			t.Run(fmt.Sprintf("%s/%s", mode, kind), func(t *testing.T) {
				t.Parallel()
				b := setup(t, options...)
				b.mustRun(t, "warm")
				for k := 1; ; k++ {
					key := fmt.Sprint("k", k)
					asleep, wake := make(chan struct{}), make(chan struct{})
					b.wire.Plan(wire.On(k, wire.Fault{Kind: kind, Hold: func() { close(asleep); <-wake }}))
					var result phases.Result
					var err error
					done := make(chan struct{})
					go func() {
						defer close(done)
						result, err = b.engine.Run(context.WithoutCancel(t.Context()), b.flow, request(key))
					}()
					select {
					case <-asleep:
					case <-done: // it never came to message k
						if k < 4 {
							t.Fatalf("only %d messages were held", k-1)
						}
						return
					}
					b.expire(t)
					b.complete(t)
					before := b.snapshot(t, key)
					close(wake)
					<-done
					b.wire.Plan(wire.Nothing)
					if before != "" && b.snapshot(t, key) != before {
						t.Errorf("message %d: the zombie changed %s to %s", k, before, b.snapshot(t, key))
					}
					if err == nil && string(result.Answer.Body) != string(b.mustRun(t, key).Answer.Body) {
						t.Errorf("message %d: the zombie answered %q", k, result.Answer.Body)
					}
					b.mustRun(t, key)
					b.checkDone(t, key)
					if t.Failed() {
						t.FailNow()
					}
				}
			})
		}
	}
}

// snapshot is everything that is stored about a key, or "" when there is none.
func (b *bundle) snapshot(t *testing.T, key string) string {
	t.Helper()
	return value[string](t, b, `
		SELECT coalesce(string_agg(k::text || p::text, ';'), '')
		FROM idempotency_keys k JOIN parcels p USING (account_id, key) WHERE key = $1`, key)
}

// TestTheTokenFences: a worker whose key was stolen, but which stands where it
// left it, is shut out by the token alone.
func TestTheTokenFences(t *testing.T) {
	t.Parallel()
	b := setup(t)
	asleep, wake := make(chan struct{}), make(chan struct{})
	b.carrier.set(hooks{after: func(_ context.Context, n int) error {
		if n == 1 {
			close(asleep)
			<-wake
		}
		return nil
	}})
	done := make(chan error, 1)
	go func() {
		_, err := b.engine.Run(context.WithoutCancel(t.Context()), b.flow, request("k"))
		done <- err
	}()
	<-asleep
	b.expire(t)
	// Another worker takes the key and is still at the same point: its call hangs.
	second, goOn := make(chan struct{}), make(chan struct{})
	b.carrier.set(hooks{before: func(context.Context, int) error { close(second); <-goOn; return nil }})
	thief := b.newEngine(t, nil)
	stolen := make(chan error, 1)
	go func() {
		_, err := thief.Run(context.WithoutCancel(t.Context()), b.flow, request("k"))
		stolen <- err
	}()
	<-second
	before := b.snapshot(t, "k")
	close(wake)
	if err := <-done; !errors.Is(err, phases.ErrInUse) {
		t.Errorf("the zombie got %v, want ErrInUse", err)
	}
	if after := b.snapshot(t, "k"); after != before {
		t.Errorf("the zombie changed %s to %s", before, after)
	}
	close(goOn)
	if err := <-stolen; err != nil {
		t.Errorf("the thief got %v", err)
	}
	b.checkDone(t, "k")
}

// TestALateReleaseUnlocksNobody: a worker that fails after its key was stolen
// must not give back what isn't its own.
func TestALateReleaseUnlocksNobody(t *testing.T) {
	t.Parallel()
	b := setup(t)
	asleep, wake := make(chan struct{}), make(chan struct{})
	b.carrier.set(hooks{before: func(context.Context, int) error { close(asleep); <-wake; return errLost }})
	done := make(chan error, 1)
	go func() {
		_, err := b.engine.Run(context.WithoutCancel(t.Context()), b.flow, request("k"))
		done <- err
	}()
	<-asleep
	b.exec(t, `UPDATE idempotency_keys SET lease_token = gen_random_uuid(), lease_epoch = lease_epoch + 1,
		leased_until = now() + interval '1 hour'`)
	before := b.snapshot(t, "k")
	close(wake)
	if err := <-done; err == nil {
		t.Error("the call succeeded")
	}
	if after := b.snapshot(t, "k"); after != before {
		t.Errorf("the late release changed %s to %s", before, after)
	}
}

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

// TestALockedRowIsInUse: a claim that can't get at the row in time refuses.
func TestALockedRowIsInUse(t *testing.T) {
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
