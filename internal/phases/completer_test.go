package phases_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/proof/wire"
)

// abandon leaves n keys abandoned after their first send, due now.
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

func TestTheCompleterFinishesWhatFallsDue(t *testing.T) {
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
	pgtest.Eventually(t, "every key is finished", func() bool {
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
	b.exec(t, `UPDATE idempotency_keys SET lease_token = '00000000-0000-4000-8000-000000000001', leased_until = now() + interval '1 hour'`)
	if counts := b.complete(t); counts != (phases.Counts{}) {
		t.Errorf("the completer did %+v with a leased key", counts)
	}
	if _, err := b.run(t, "k0"); !errors.Is(err, phases.ErrInUse) {
		t.Errorf("a client got %v, want ErrInUse", err)
	}
}

// TestAKeyThatHangsDelaysNoOther: a key whose call hangs holds one slot only
// (I18).
func TestAKeyThatHangsDelaysNoOther(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.abandon(t, 30)
	poisoned := phases.ForeignKey("parcel", booked, "acct_1", "k0")
	leave := make(chan struct{})
	engine := b.newEngine(t, nil, func(c *phases.Config) { c.Flows = []phases.Flow{b.hanging(poisoned, leave)} })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); b.completer(engine).Run(ctx) }()
	pgtest.Eventually(t, "29 keys are finished", func() bool {
		return value[int](t, b, `SELECT count(*) FROM idempotency_keys WHERE finished_at IS NOT NULL`) == 29
	})
	close(leave)
	pgtest.Eventually(t, "the last key is finished", func() bool {
		return value[int](t, b, `SELECT count(*) FROM idempotency_keys WHERE finished_at IS NOT NULL`) == 30
	})
	cancel()
	<-done
}

// hanging returns the flow under test with a call that hangs for one foreign
// key.
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

func TestTheCompleterLeavesParkedKeysAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.carrier.set(hooks{answer: "odd"})
	_, _ = b.run(t, "k")
	b.expire(t)
	if counts := b.complete(t); counts != (phases.Counts{Waiting: 1}) {
		t.Errorf("the completer did %+v with a parked key", counts)
	}
}

// TestOnceTriesEachKeyOnce: a round ends although its keys are due again at
// once.
func TestOnceTriesEachKeyOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.abandon(t, 3)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	b.carrier.set(hooks{before: func(_ context.Context, n int) error {
		if n > 20 {
			cancel()
		}
		return errLost
	}})
	engine := b.newEngine(t, nil, func(c *phases.Config) { c.Backoff = phases.Backoff{Initial: 1, Max: 1} })
	if counts, err := b.completer(engine).Once(ctx); err != nil || counts.Released != 3 {
		t.Errorf("one round did %+v, %v", counts, err)
	}
}

// TestTheCompleterReapsAndSurvivesTrouble: its first messages are all cut.
func TestTheCompleterReapsAndSurvivesTrouble(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.mustRun(t, "old")
	b.age(t)
	b.abandon(t, 1)
	w := wire.NewPostgres()
	engine := b.newEngine(t, w)
	w.Plan(func(n int, _ []byte) wire.Fault {
		if n < 8 {
			return wire.Fault{Kind: wire.CutBefore}
		}
		return wire.Fault{}
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); b.completer(engine).Run(ctx) }()
	pgtest.Eventually(t, "every key is finished, and one is reaped", func() bool {
		return value[bool](t, b, `SELECT bool_and(finished_at IS NOT NULL) AND bool_or(reaped_at IS NOT NULL) FROM idempotency_keys`)
	})
	cancel()
	<-done
}

// TestShortRetention: where answers are kept for a moment only, the completer
// reaps as often as that needs.
func TestShortRetention(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.completer(b.newEngine(t, nil))
	c.Retention, c.Poll = time.Second, 100*time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); c.Run(ctx) }()
	soon := false
	for i := 0; i < 4 && !soon; i++ {
		b.mustRun(t, fmt.Sprint("k", i))
		start := time.Now()
		pgtest.Eventually(t, "every key is reaped", func() bool { return value[bool](t, b, `SELECT bool_and(reaped_at IS NOT NULL) FROM idempotency_keys`) })
		// The first may be reaped as the completer begins, and on a busy machine
		// one of the others may be late.
		soon = i > 0 && time.Since(start) < 8*time.Second
	}
	if !soon {
		t.Error("no answer that is kept for a second was gone within eight")
	}
	cancel()
	<-done
}

// TestTheCompleterFinishesItsKeysWhenItEnds: the end of the context of Run
// doesn't end the attempts.
func TestTheCompleterFinishesItsKeysWhenItEnds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.abandon(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	b.carrier.set(hooks{before: func(ctx context.Context, _ int) error { cancel(); return ctx.Err() }})
	b.completer(b.newEngine(t, nil)).Run(ctx)
	b.checkDone(t, "k0")
}

// TestACompleterTakesNoMoreKeysThanItsEngine: otherwise the engine would refuse
// keys as busy.
func TestACompleterTakesNoMoreKeysThanItsEngine(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const keys = 12
	b.abandon(t, keys)
	engine := b.newEngine(t, nil, func(c *phases.Config) { c.MaxInFlight = 1 })
	if counts, err := b.completer(engine).Once(t.Context()); err != nil || counts != (phases.Counts{Finished: keys}) {
		t.Errorf("one round did %+v, %v; want %d finished", counts, err, keys)
	}
}

// TestReapingDelaysNoDueKey: while the reaper waits for an old key's lock, keys
// that fall due are finished.
func TestReapingDelaysNoDueKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.mustRun(t, "old")
	b.age(t)
	unlock := b.lock(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); b.completer(b.newEngine(t, nil)).Run(ctx) }()
	pgtest.Eventually(t, "the reaping waits for the lock", func() bool {
		return value[bool](t, b, `SELECT EXISTS (SELECT 1 FROM `+pgtest.Activity()+`
			WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%reaped_at = %')`)
	})
	b.abandon(t, 3)
	pgtest.Eventually(t, "the abandoned keys are finished", func() bool {
		return value[int](t, b, `SELECT count(*) FROM idempotency_keys WHERE key LIKE 'k%' AND finished_at IS NOT NULL`) == 3
	})
	if value[bool](t, b, `SELECT bool_or(reaped_at IS NOT NULL) FROM idempotency_keys`) {
		t.Error("the old key was reaped although it was locked, so the test shows nothing")
	}
	unlock()
	cancel()
	<-done
}

// TestTheOldestKeysGoFirst: a completer with one slot lists four keys at a
// time, so the four that have been due for longest are tried before the others.
func TestTheOldestKeysGoFirst(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for i := range 8 {
		_ = b.sendOnce(t, fmt.Sprint("k", i), hooks{before: lost})
	}
	b.expire(t)
	for i := range 8 {
		b.exec(t, `UPDATE idempotency_keys SET run_after = now() - $1 * interval '1 minute' WHERE key = $2`, 10-i, fmt.Sprint("k", i))
	}
	before := len(b.carrier.sent())
	completer := b.completer(b.newEngine(t, nil))
	completer.Concurrency = 1
	if _, err := completer.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	sends := b.carrier.sent()[before:]
	if len(sends) != 8 {
		t.Fatalf("%d keys were tried, want 8", len(sends))
	}
	for i, send := range sends[:4] {
		if key := strings.TrimPrefix(send.form, "parcel="); key > "k3" {
			t.Errorf("%s was tried as number %d, before older ones", key, i+1)
		}
	}
}

// TestACompleterLeavesOtherRealmsAlone: keys of the other mode are neither
// listed nor claimed.
func TestACompleterLeavesOtherRealmsAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_ = b.sendOnce(t, "k", hooks{before: lost})
	b.expire(t)
	before := b.snapshot(t, "k")
	engine := b.newEngine(t, nil, func(c *phases.Config) { c.Realm = func() string { return "live" } })
	counts, err := b.completer(engine).Once(t.Context())
	if err != nil || counts != (phases.Counts{}) {
		t.Errorf("it did %+v, %v", counts, err)
	}
	if after := b.snapshot(t, "k"); after != before {
		t.Errorf("the key changed from %s to %s", before, after)
	}
}
