package phases_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/phases"
)

func TestRefusals(t *testing.T) {
	t.Parallel()

	t.Run("while paused, new keys are refused before a claim and unfinished ones wait", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.mustRun(t, "done")
		b.carrier.set(hooks{before: func(context.Context, int) error { return errLost }})
		if _, err := b.run(t, "open"); err == nil {
			t.Fatal("the carrier answered")
		}
		b.carrier.set(hooks{})
		b.expire(t)
		b.engine = b.newEngine(t, nil, func(c *phases.Config) { c.Paused = []string{"parcel"} })
		for _, key := range []string{"new", "open"} {
			if _, err := b.run(t, key); !errors.Is(err, phases.ErrPaused) {
				t.Errorf("%s: got %v, want ErrPaused", key, err)
			}
		}
		b.mustRun(t, "done")
		if counts, err := b.completer(b.engine).Once(t.Context()); err != nil || counts != (phases.Counts{}) {
			t.Errorf("a paused completer did %+v, %v", counts, err)
		}
		if got := value[int](t, b, `SELECT count(*) FROM idempotency_keys WHERE key = 'new'`); got != 0 {
			t.Error("a refused key was claimed")
		}
		if counts := b.complete(t); counts.Finished != 1 {
			t.Errorf("after the pause: %+v", counts)
		}
	})

	t.Run("while busy, a request is refused before a claim", func(t *testing.T) {
		t.Parallel()
		b := setup(t, func(c *phases.Config) { c.MaxInFlight = 1 })
		occupy(t, b)
		if _, err := b.run(t, "second"); !errors.Is(err, phases.ErrBusy) {
			t.Errorf("got %v, want ErrBusy", err)
		}
		if got := value[int](t, b, `SELECT count(*) FROM idempotency_keys WHERE key = 'second'`); got != 0 {
			t.Error("a refused key was claimed")
		}
	})
}

// TestAnAccountDoesNotTakeAllTheRoom: an account with as many attempts in
// flight as it may have is refused before a claim. What is finished is answered
// all the same, and so is every other account.
func TestAnAccountDoesNotTakeAllTheRoom(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *phases.Config) { c.MaxPerAccount = 2 })
	b.mustRun(t, "done")
	var arrived, ended sync.WaitGroup
	leave := make(chan struct{})
	arrived.Add(2)
	b.carrier.set(hooks{before: func(context.Context, int) error { arrived.Done(); <-leave; return nil }})
	for _, key := range []string{"one", "two"} {
		ended.Go(func() { b.mustRun(t, key) })
	}
	arrived.Wait()
	b.carrier.set(hooks{})
	for range 3 { // a refusal takes no room, and gives none back
		if _, err := b.run(t, "three"); !errors.Is(err, phases.ErrBusy) {
			t.Errorf("got %v, want ErrBusy", err)
		}
	}
	if got := value[int](t, b, `SELECT count(*) FROM idempotency_keys WHERE key = 'three'`); got != 0 {
		t.Error("a refused key was claimed")
	}
	b.mustRun(t, "done")
	other := request("three")
	other.Account = "acct_2"
	if _, err := b.engine.Run(t.Context(), b.flow, other); err != nil {
		t.Errorf("another account got %v", err)
	}
	close(leave)
	ended.Wait()
	b.mustRun(t, "three")
}

// TestTheCompleterHasItsOwnBound: a busy account's keys would be due again at
// once, and the completer would do nothing but find them busy.
func TestTheCompleterHasItsOwnBound(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, key := range []string{"one", "two", "three", "four"} {
		_ = b.sendOnce(t, key, hooks{before: lost})
	}
	b.expire(t)
	var arrived sync.WaitGroup // all of them are in flight at once
	arrived.Add(4)
	b.carrier.set(hooks{before: func(context.Context, int) error { arrived.Done(); arrived.Wait(); return nil }})
	engine := b.newEngine(t, nil, func(c *phases.Config) { c.MaxPerAccount = 1 })
	if counts, err := b.completer(engine).Once(t.Context()); err != nil || counts != (phases.Counts{Finished: 4}) {
		t.Errorf("the completer did %+v, %v", counts, err)
	}
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	reached := make(chan struct{})
	b.carrier.set(hooks{before: func(ctx context.Context, _ int) error {
		close(reached)
		<-ctx.Done()
		return ctx.Err()
	}})
	engine := b.newEngine(t, nil)
	done := make(chan error, 1)
	go func() {
		_, err := engine.Run(context.WithoutCancel(t.Context()), b.flow, request("k"))
		done <- err
	}()
	<-reached
	grace, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if left := engine.Shutdown(grace); left != 1 {
		t.Errorf("%d attempts were ended, want 1", left)
	}
	if b.show(t, "k").Leased {
		t.Error("Shutdown returned before the key was released")
	}
	if err := <-done; !errors.Is(err, phases.ErrAborted) {
		t.Errorf("the attempt ended with %v, want ErrAborted", err)
	}
	if _, err := engine.Run(t.Context(), b.flow, request("late")); !errors.Is(err, phases.ErrDraining) {
		t.Errorf("a late request got %v, want ErrDraining", err)
	}
	// The key was released and is due at once: another process goes on without
	// waiting for the lease to end.
	b.carrier.set(hooks{})
	if counts := b.complete(t); counts.Finished != 1 {
		t.Errorf("another process did %+v, want it to go on at once", counts)
	}
	b.checkDone(t, "k")
}

// TestShutdownDuringAPhase: when the end of the process interrupts a phase,
// that doesn't count as a failure of the key. The key is released, due at once.
func TestShutdownDuringAPhase(t *testing.T) {
	t.Parallel()
	b := setup(t, stepwise)
	_ = b.sendOnce(t, "k", hooks{pack: func(*phases.Tx, phases.Key) (*phases.Outcome, error) { return nil, errLost }})
	b.expire(t)
	reached := make(chan struct{})
	b.carrier.set(hooks{pack: func(tx *phases.Tx, _ phases.Key) (*phases.Outcome, error) {
		close(reached)
		var never string
		return nil, tx.QueryRow(`SELECT pg_sleep(60)::text`).Scan(&never)
	}})
	engine := b.newEngine(t, nil, func(c *phases.Config) {
		c.Backoff = phases.Backoff{Initial: time.Hour, Max: time.Hour}
		c.MaxAttempts = 1
	})
	done := make(chan phases.Counts, 1)
	go func() {
		counts, _ := b.completer(engine).Once(context.WithoutCancel(t.Context()))
		done <- counts
	}()
	<-reached
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if left := engine.Shutdown(ended); left != 1 {
		t.Errorf("%d attempts were ended, want 1", left)
	}
	if counts := <-done; counts != (phases.Counts{Released: 1}) {
		t.Errorf("the completer did %+v, want the key to be released", counts)
	}
	if got := b.show(t, "k"); got.Leased || got.ParkedReason != "" || got.Failures != 0 {
		t.Errorf("the key is leased %t, parked %q, with %d failures", got.Leased, got.ParkedReason, got.Failures)
	}
	b.carrier.set(hooks{})
	if counts := b.complete(t); counts.Finished != 1 {
		t.Errorf("another process did %+v, want it to go on at once", counts)
	}
	b.checkDone(t, "k")
}
