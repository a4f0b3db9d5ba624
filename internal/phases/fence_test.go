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

// TestTheTokenFences: another worker has claimed the key, which stands where
// the first worker left it. The token alone shuts the first worker out (I7).
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
	// The other worker's call hangs, so the key stays at its point.
	second, goOn := make(chan struct{}), make(chan struct{})
	b.carrier.set(hooks{before: func(context.Context, int) error { close(second); <-goOn; return nil }})
	other := b.newEngine(t, nil)
	ended := make(chan error, 1)
	go func() {
		_, err := other.Run(context.WithoutCancel(t.Context()), b.flow, request("k"))
		ended <- err
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
	if err := <-ended; err != nil {
		t.Errorf("the other worker got %v", err)
	}
	b.checkDone(t, "k")
}

// TestALateReleaseChangesNothing: a worker that fails after another has claimed
// its key must not release the other's claim.
func TestALateReleaseChangesNothing(t *testing.T) {
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
	b.exec(t, `UPDATE idempotency_keys SET lease_token = '00000000-0000-4000-8000-000000000001', lease_epoch = lease_epoch + 1,
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

// strip drops the schema's CHECKs on who may own a row, and disables the
// tripwires, so that a test sees what the conditions of a statement alone hold
// back.
func (b *bundle) strip(t *testing.T) {
	t.Helper()
	b.unwatch(t)
	for _, constraint := range []string{"idempotency_keys_sound"} {
		pgtest.DropConstraint(t, b.url, "idempotency_keys", constraint)
	}
}

// changeAt changes the row of key k before the n-th message is sent. The
// function that it returns tells what the key was right after that.
func (b *bundle) changeAt(t *testing.T, n int, set string) func() string {
	t.Helper()
	var changed string
	b.wire.Plan(func(at int, _ []byte) wire.Fault {
		if at == n {
			b.exec(t, `UPDATE idempotency_keys SET `+set+` WHERE key = 'k'`)
			changed = b.snapshot(t, "k")
		}
		return wire.Fault{}
	})
	return func() string {
		t.Helper()
		if changed == "" {
			t.Fatalf("message %d was never sent", n)
		}
		return changed
	}
}

const finishedByAnother = `finished_at = now(), response_status = 200, response_headers = '{}', response_body = ''`

// TestAStaleReadClaimsNothing: each condition of the claim is needed, because
// it holds back a claim that no other condition does.
func TestAStaleReadClaimsNothing(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]string{
		"was claimed and released":  `lease_epoch = lease_epoch + 1`,
		"has moved":                 `recovery_point = 'booked'`,
		"was parked":                `parked_reason = 'odd'`,
		"was finished":              finishedByAnother,
		"is held by another worker": `leased_until = now() + interval '1 hour'`,
		"has another call to show":  `calling_until = now() + interval '1 hour'`,
	} {
		t.Run("a key that "+name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.mustRun(t, "warm")
			_ = b.sendOnce(t, "k", hooks{before: lost})
			b.strip(t)
			changed := b.changeAt(t, 2, set) // after the read, before the claim
			_, err := b.run(t, "k")
			if got, want := b.snapshot(t, "k"), changed(); got != want {
				t.Errorf("the claim, which ended with %v, changed\n%s to\n%s", err, want, got)
			}
		})
	}
}

// TestAStaleWorkerWritesNothing: each condition of the fence is needed, because
// it shuts out a worker that no other condition does (I7, I8).
func TestAStaleWorkerWritesNothing(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]string{
		"is held by another worker":   `lease_token = '00000000-0000-4000-8000-000000000001'`,
		"the worker itself has moved": `recovery_point = 'booked'`,
		"was parked":                  `parked_reason = 'odd'`,
		"was finished":                finishedByAnother,
	} {
		t.Run("a key that "+name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.mustRun(t, "warm")
			b.strip(t)
			changed := b.changeAt(t, 3, set) // after the call, before its record
			_, err := b.run(t, "k")
			if got, want := b.snapshot(t, "k"), changed(); got != want {
				t.Errorf("the worker, which ended with %v, changed\n%s to\n%s", err, want, got)
			}
		})
	}
}

// TestAStalePhaseWritesNothing: however a phase ends, the fence aborts its
// whole transaction, and not only the write to the key.
func TestAStalePhaseWritesNothing(t *testing.T) {
	t.Parallel()
	for name, outcome := range map[string]phases.Outcome{
		"advance": phases.Advance(),
		"finish":  phases.Finish(409, nil, []byte("no")),
		"wait":    phases.Wait(time.Second, "ref"),
		"park":    phases.Park("odd", ""),
	} {
		t.Run("a phase that would "+name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, stepwise)
			b.mustRun(t, "warm")
			b.carrier.set(hooks{pack: func(tx *phases.Tx, key phases.Key) (*phases.Outcome, error) {
				tx.Queue(`INSERT INTO parcels (account_id, key, writes) VALUES ($1, $2, 1)`, key.Account, key.Key)
				return &outcome, nil
			}})
			b.changeAt(t, 3, `lease_token = '00000000-0000-4000-8000-000000000001'`) // after the insert, before the phase
			if _, err := b.run(t, "k"); !errors.Is(err, phases.ErrInUse) {
				t.Errorf("got %v, want ErrInUse", err)
			}
			if n := value[int](t, b, `SELECT count(*) FROM parcels WHERE key = 'k'`); n != 0 {
				t.Error("a fenced worker has packed")
			}
			if n := value[int](t, b, `SELECT count(*) FROM audit_records WHERE action = 'key.parked'`); n != 0 {
				t.Error("a fenced worker has recorded that it parked the key")
			}
		})
	}
}

// TestASecondInsertWritesNothing: between the read and the insert another
// worker inserted the key. The phases of the first transaction must not run
// twice, even if nothing in them would notice.
func TestASecondInsertWritesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.mustRun(t, "warm")
	other := b.newEngine(t, nil)
	b.carrier.set(hooks{pack: func(tx *phases.Tx, key phases.Key) (*phases.Outcome, error) {
		tx.Queue(`INSERT INTO parcels (account_id, key, writes) VALUES ($1, $2, 1)
			ON CONFLICT (account_id, key) DO UPDATE SET writes = parcels.writes + 1`, key.Account, key.Key)
		outcome := phases.Advance()
		return &outcome, nil
	}})
	b.wire.Plan(func(n int, _ []byte) wire.Fault {
		if n == 2 {
			if _, err := other.Run(t.Context(), b.flow, request("k")); err != nil {
				t.Error(err)
			}
		}
		return wire.Fault{}
	})
	b.mustRun(t, "k")
	b.checkDone(t, "k")
}

// TestAStaleDecisionIsNotCarriedOut: each condition of the statement that
// claims a parked key is needed, because it holds back a decision about a row
// that has changed since it was read.
func TestAStaleDecisionIsNotCarriedOut(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]string{
		"was retried and parked again":           `lease_epoch = lease_epoch + 2`,
		"is not parked any more":                 `parked_reason = NULL`,
		"has a worker that may still be calling": `calling_until = now() + interval '1 hour'`,
		"has a lease that has not ended":         `leased_until = now() + interval '1 hour'`,
	} {
		t.Run("a key that "+name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.mustRun(t, "warm")
			b.carrier.set(hooks{answer: "odd"})
			_, _ = b.run(t, "k")
			seen := b.show(t, "k")
			changed := b.changeAt(t, 1, set)
			_, err := b.engine.Resolve(t.Context(), seen, "ann", "not booked", notBooked)
			if !errors.Is(err, phases.ErrChanged) {
				t.Errorf("got %v, want ErrChanged", err)
			}
			if got, want := b.snapshot(t, "k"), changed(); got != want {
				t.Errorf("the decision changed\n%s to\n%s", want, got)
			}
		})
	}
}
