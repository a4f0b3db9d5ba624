package phases_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// abandon leaves n keys behind after their first send, due now.
func (b *bundle) abandon(t *testing.T, n int) {
	t.Helper()
	b.carrier.set(hooks{after: lost})
	for i := range n {
		if _, err := b.run(t, fmt.Sprint("k", i)); err == nil {
			t.Fatal("the carrier answered")
		}
	}
	b.carrier.set(hooks{})
	b.expire(t)
}

func TestCompletersShareTheWork(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const keys = 60
	b.abandon(t, keys)
	var group sync.WaitGroup
	var finished, lostRaces atomic.Int64
	for range 3 {
		engine := b.newEngine(t, nil)
		group.Go(func() {
			counts, err := b.completer(engine).Once(t.Context())
			if err != nil {
				t.Error(err)
			}
			finished.Add(int64(counts.Finished))
			lostRaces.Add(int64(counts.Lost))
		})
	}
	group.Wait()
	if got := finished.Load(); got != keys {
		t.Errorf("three completers finished %d keys (and lost %d races), want %d", got, lostRaces.Load(), keys)
	}
	for i := range keys {
		b.checkDone(t, fmt.Sprint("k", i))
	}
	if counts := b.complete(t); counts != (phases.Counts{}) {
		t.Errorf("another round did %+v, want nothing", counts)
	}
}

func TestTheDaemonFinishesWhatFallsDue(t *testing.T) {
	t.Parallel()
	b := setup(t)
	engine := b.newEngine(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); b.completer(engine).Run(ctx) }()
	b.carrier.set(hooks{before: func(_ context.Context, n int) error {
		if n%3 != 0 {
			return errLost
		}
		return nil
	}})
	for i := range 10 {
		_, _ = b.run(t, fmt.Sprint("k", i))
	}
	waitFor(t, func() bool {
		return value[int](t, b, `SELECT count(*) FROM idempotency_keys WHERE finished_at IS NULL`) == 0
	})
	cancel()
	<-done
	for i := range 10 {
		b.checkDone(t, fmt.Sprint("k", i))
	}
}

func TestRunAfterBindsTheCompleterOnly(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.abandon(t, 1)
	b.exec(t, `UPDATE idempotency_keys SET run_after = now() + interval '1 hour'`)
	if counts := b.complete(t); counts != (phases.Counts{}) {
		t.Errorf("the completer did %+v before the key was due", counts)
	}
	b.mustRun(t, "k0")
}

func TestALeasedKeyIsLeftAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.abandon(t, 1)
	b.exec(t, `UPDATE idempotency_keys SET lease_token = gen_random_uuid(), leased_until = now() + interval '1 hour'`)
	if counts := b.complete(t); counts != (phases.Counts{}) {
		t.Errorf("the completer did %+v with a leased key", counts)
	}
	if _, err := b.run(t, "k0"); !errors.Is(err, phases.ErrInUse) {
		t.Errorf("a client got %v, want ErrInUse", err)
	}
}

func TestFailuresThatWouldRepeatPark(t *testing.T) {
	t.Parallel()
	poison := func(*phases.Tx, phases.Key) (*phases.Outcome, error) { return nil, errors.New("poison") }

	t.Run("when the completer finds them", func(t *testing.T) {
		t.Parallel()
		b := setup(t, stepwise)
		b.carrier.set(hooks{pack: poison})
		for range 20 { // a retrying client can't park a key
			if _, err := b.run(t, "k"); errors.Is(err, phases.ErrParked) {
				t.Fatal("a client parked a key")
			}
		}
		for range 3 {
			b.expire(t)
			b.complete(t)
		}
		if got := b.show(t, "k"); got.ParkedReason != "max_attempts" || got.Failures != 2 {
			t.Errorf("after three failures: parked for %q with %d failures", got.ParkedReason, got.Failures)
		}
	})

	t.Run("a violated constraint parks at once", func(t *testing.T) {
		t.Parallel()
		b := setup(t, stepwise)
		b.carrier.set(hooks{pack: func(tx *phases.Tx, _ phases.Key) (*phases.Outcome, error) {
			tx.Queue(`INSERT INTO parcels (account_id, key) VALUES (NULL, NULL)`)
			return nil, nil
		}})
		_, _ = b.run(t, "k")
		b.expire(t)
		if counts := b.complete(t); counts.Parked != 1 {
			t.Errorf("the completer did %+v", counts)
		}
		if got := b.show(t, "k").ParkedReason; got != "impossible_violation" {
			t.Errorf("parked for %q", got)
		}
	})

	t.Run("trouble that passes by itself does not", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.abandon(t, 1)
		b.carrier.set(hooks{before: lost})
		for range 10 {
			b.expire(t)
			if counts := b.complete(t); counts.Released != 1 {
				t.Fatalf("the completer did %+v", counts)
			}
		}
		b.carrier.set(hooks{})
		b.mustRun(t, "k0")
	})
}

func TestFailuresBackOff(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *phases.Config) { c.Backoff = phases.Backoff{Initial: time.Second, Max: 10 * time.Second} })
	wait := func() time.Duration {
		return time.Duration(value[float64](t, b, `SELECT extract(epoch FROM run_after - now())::float8 FROM idempotency_keys`) * float64(time.Second))
	}
	for n, most := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 10 * time.Second, 10 * time.Second} {
		_ = b.sendOnce(t, "k", hooks{before: lost})
		if got := wait(); got > most || got < most/2-time.Second {
			t.Errorf("after failure %d the key is due in %s, want up to %s", n+1, got, most)
		}
	}
	_ = b.sendOnce(t, "k", hooks{before: func(context.Context, int) error {
		return &phases.CallError{Class: phases.Unknown, Err: errLost, Backoff: phases.Backoff{Initial: time.Minute, Max: time.Minute}}
	}})
	if got := wait(); got < 55*time.Second {
		t.Errorf("the other side asked for a minute, and the key is due in %s", got)
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	b := phases.Backoff{Initial: time.Second, Max: time.Minute}
	for n := 1; n < 200; n++ {
		most := min(time.Second<<min(n-1, 20), time.Minute)
		for range 100 {
			if got := b.Next(n); got < time.Second || got < most/2 || got > most {
				t.Fatalf("wait %d is %s, want %s to %s", n, got, most/2, most)
			}
		}
	}
}

// TestAPoisonedKeyDelaysNobody: keys whose calls hang hold their own slots only.
func TestAPoisonedKeyDelaysNobody(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.abandon(t, 30)
	poisoned := phases.ForeignKey("parcel", booked, "acct_1", "k0")
	leave := make(chan struct{})
	engine := b.newEngine(t, nil, func(c *phases.Config) { c.Flows = []phases.Flow{b.hanging(poisoned, leave)} })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); b.completer(engine).Run(ctx) }()
	waitFor(t, func() bool {
		return value[int](t, b, `SELECT count(*) FROM idempotency_keys WHERE finished_at IS NOT NULL`) == 29
	})
	close(leave)
	waitFor(t, func() bool {
		return value[int](t, b, `SELECT count(*) FROM idempotency_keys WHERE finished_at IS NOT NULL`) == 30
	})
	cancel()
	<-done
}

// hanging is the flow under test with a call that hangs for one foreign key.
func (b *bundle) hanging(key string, leave chan struct{}) phases.Flow {
	return phases.NewFlow("parcel", 1,
		phases.Atomic(packed, b.carrier.pack),
		phases.Foreign(booked, phases.Call[bookingForm, booking]{
			Prepare: b.carrier.prepare,
			Do: func(ctx context.Context, sent phases.Sent[bookingForm]) (booking, error) {
				if sent.Key == key {
					<-leave
				}
				return b.carrier.do(ctx, sent)
			},
			Find: b.carrier.find, Record: record,
		}),
		phases.Atomic(phases.Finished, printLabel),
	)
}

func TestReaping(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.mustRun(t, "old")
	b.mustRun(t, "young")
	b.carrier.set(hooks{answer: "odd"})
	_, _ = b.run(t, "parked")
	b.carrier.set(hooks{})
	_ = b.sendOnce(t, "unfinished", hooks{after: lost})
	b.exec(t, `ALTER TABLE idempotency_keys DISABLE TRIGGER watch_key`)
	b.exec(t, `UPDATE idempotency_keys SET created_at = now() - interval '1 year', run_after = now() + interval '1 hour',
		finished_at = CASE WHEN finished_at IS NOT NULL THEN now() - interval '1 year' END WHERE key <> 'young'`)
	b.exec(t, `ALTER TABLE idempotency_keys ENABLE TRIGGER watch_key`)

	if counts := b.complete(t); counts != (phases.Counts{Reaped: 1}) {
		t.Errorf("the completer did %+v, want one key reaped", counts)
	}
	if _, err := b.run(t, "old"); !errors.Is(err, phases.ErrKeyExpired) {
		t.Errorf("the reaped key gives %v, want ErrKeyExpired", err)
	}
	if n := value[int](t, b, `SELECT count(*) FROM idempotency_keys WHERE key = 'old' AND params = '' AND response_body IS NULL AND foreign_form IS NULL`); n != 1 {
		t.Error("the reaped key was not emptied")
	}
	if !b.mustRun(t, "young").Replayed {
		t.Error("the young key was reaped")
	}
	if _, err := b.run(t, "parked"); !errors.Is(err, phases.ErrParked) {
		t.Errorf("the parked key gives %v", err)
	}
	b.mustRun(t, "unfinished")
	b.checkDone(t, "unfinished")

	// The tombstone goes in its own time; then the flow's own constraint refuses.
	b.exec(t, `UPDATE idempotency_keys SET reaped_at = now() - interval '31 days' WHERE key = 'old'`)
	if counts := b.complete(t); counts.Deleted != 1 {
		t.Errorf("the completer did %+v, want one tombstone deleted", counts)
	}
	if _, err := b.run(t, "old"); !errors.Is(err, phases.ErrKeyExpired) {
		t.Errorf("without its tombstone the key gives %v, want ErrKeyExpired", err)
	}
	if got := len(b.carrier.sent()); got != 5 {
		t.Errorf("%d sends, want 5", got)
	}
}

func TestReapingGoesOnBeyondABatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(t, `INSERT INTO idempotency_keys (account_id, key, flow, flow_version, realm, request_id, method, path, request_hash,
		canon_version, params, recovery_point, lease_epoch, attempts, finished_at, response_status, response_headers, response_body)
		SELECT 'acct_' || n % 7, 'k' || n, 'parcel', 1, 'test', '', '', '', '', 1, '', 'finished', 1, 1, now() - interval '1 year', 200, '{}', ''
		FROM generate_series(1, 1234) n`)
	if counts := b.complete(t); counts.Reaped != 1234 {
		t.Errorf("reaped %d of 1234", counts.Reaped)
	}
}
