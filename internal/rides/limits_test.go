package rides

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/web"
	"github.com/rocketrides/rocketrides/proof/wire"
)

func decode[T any](t *testing.T, r reply) T {
	t.Helper()
	var value T
	if err := json.Unmarshal([]byte(r.body), &value); err != nil {
		t.Fatalf("%v in %s", err, r.body)
	}
	return value
}

// TestRoundTrips counts at the socket, behind the HTTP handler.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.hailAs(t, h.visa, "warm").must(t, 201, "") // authentication cached, statements prepared
	writes := func() int { return number(t, h, `SELECT count(DISTINCT xid) FROM phase_log WHERE key = 'k'`) }

	h.wire.Plan(wire.Nothing)
	h.hailAs(t, h.visa, "k").must(t, 201, "")
	if got := h.wire.Messages(); got != 3 {
		t.Errorf("a ride took %d round trips, want 3", got)
	}
	if got := writes(); got != 2 {
		t.Errorf("a ride took %d writing transactions, want 2", got)
	}
	for name, refused := range map[string]call{
		"a replay":        {method: "POST", path: "/v1/rides", body: aRide, key: "k", as: h.visa},
		"another request": {method: "POST", path: "/v1/rides", body: `{}`, key: "k", as: h.visa},
	} {
		h.wire.Plan(wire.Nothing)
		h.send(t, refused)
		if got := h.wire.Messages(); got != 1 {
			t.Errorf("%s took %d round trips, want 1", name, got)
		}
	}
	if got := writes(); got != 2 {
		t.Errorf("replays wrote %d transactions", got-2)
	}
	if n := number(t, h, `SELECT count(*) FROM audit_records WHERE action = 'key.barrier'`); n != 0 {
		t.Errorf("%d barriers were written on the happy way", n)
	}
}

// TestSlowStripe: 300 rides wait for Stripe, and hold neither a transaction nor
// more than a few connections.
func TestSlowStripe(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	const rides = 300
	gate := make(chan struct{})
	h.fake.Script(fakestripe.Fault{Kind: fakestripe.Delayed, HoldBefore: gate, Times: rides})
	var group sync.WaitGroup
	for i := range rides {
		group.Go(func() { // like a client: 503 means that a loaded machine had no connection free in time
			for h.hailAs(t, h.visa, fmt.Sprint("k", i)).status == http.StatusServiceUnavailable && t.Context().Err() == nil {
				runtime.Gosched()
			}
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := h.fake.WaitSends(ctx, rides, nil); err != nil {
		t.Fatalf("not all rides reached Stripe: %v", err)
	}
	if n := number(t, h, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'`); n != 0 {
		t.Errorf("%d sessions are idle in transaction", n)
	}
	if n := number(t, h, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()`); n > 20 {
		t.Errorf("%d rides in flight hold %d connections", rides, n)
	}
	close(gate)
	group.Wait()
	if n := number(t, h, `SELECT count(*) FROM rides WHERE status = 'charged'`); n != rides {
		t.Errorf("%d of %d rides are charged", n, rides)
	}
}

// TestAPanicInAPhase: the client gets 500, nothing of it is stored, and the
// same key goes on.
func TestAPanicInAPhase(t *testing.T) {
	t.Parallel()
	for _, at := range []int{0, 1, 2} {
		t.Run(fmt.Sprint("in phase ", at), func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			bomb := func(*phases.Tx, phases.Key) (phases.Outcome, error) { panic("boom") }
			list := []phases.Phase{
				phases.Atomic(pointRide, createRide),
				phases.Foreign(pointCharge, phases.Call[payments.ChargeForm, payments.Charge]{
					Prepare: freezeCharge, Do: h.process.stripe.Charge, Find: h.process.stripe.FindCharge, Record: recordCharge,
				}),
				phases.Atomic(phases.Finished, stageReceipt),
			}
			switch at {
			case 0:
				list[0] = phases.Atomic(pointRide, bomb)
			case 1:
				list[1] = phases.Foreign(pointCharge, phases.Call[payments.ChargeForm, payments.Charge]{
					Prepare: freezeCharge, Find: h.process.stripe.FindCharge, Record: recordCharge,
					Do: func(context.Context, phases.Sent[payments.ChargeForm]) (payments.Charge, error) { panic("boom") },
				})
			case 2:
				list[2] = phases.Atomic(phases.Finished, bomb)
			}
			broken := NewService(h.config)
			broken.hail = phases.NewFlow(hailFlow, hailVersion, list...)
			r := h.serving(t, broken.Handler()).hailAs(t, h.visa, "k").must(t, 500, web.CodeInternal)
			if !r.problem.Retryable {
				t.Error("a bug is not retryable")
			}
			h.hailAs(t, h.visa, "k").must(t, 201, "")
			h.checkCharged(t, h.visa, "k")
		})
	}
}

func TestParkingAndResolving(t *testing.T) {
	t.Parallel()
	park := func(t *testing.T, h *harness) phases.Record {
		t.Helper()
		keys := phases.Keys{Pool: h.pool}
		if err := keys.Park(t.Context(), h.key(t, h.visa, "k"), "ann"); err != nil {
			t.Fatal(err)
		}
		h.hailAs(t, h.visa, "k").must(t, 409, web.CodePaymentUnderReview)
		ride := h.send(t, call{method: "GET", path: "/v1/rides/" + rideID(h.visa.AccountID, "k"), as: h.visa}).must(t, 200, "").ride
		if ride.Status != StatusUnderReview {
			t.Errorf("the ride is %s", ride.Status)
		}
		return h.key(t, h.visa, "k")
	}
	leave := func(t *testing.T, kind fakestripe.Kind) *harness {
		t.Helper()
		h := newHarness(t)
		h.fake.Script(fakestripe.Fault{Kind: kind})
		h.hailAs(t, h.visa, "k").must(t, 503, web.CodePaymentProcessorUnavailable)
		return h
	}

	t.Run("what was charged can be resolved as charged only", func(t *testing.T) {
		t.Parallel()
		h := leave(t, fakestripe.DropAfter)
		seen := park(t, h)
		resolver := Resolver{Engine: h.engine, Stripe: h.process.stripe}
		var possible *payments.ChargePossibleError
		if _, err := resolver.ResolveNotCharged(t.Context(), seen, "ann"); !errors.As(err, &possible) {
			t.Errorf("resolving as not charged: %v, want a ChargePossibleError", err)
		}
		other := h.hailAs(t, h.visa, "other").must(t, 201, "").ride
		if _, err := resolver.ResolveCharged(t.Context(), seen, "ann", other.Charge.PaymentIntent); err == nil {
			t.Error("another ride's charge was believed")
		}
		for _, intent := range h.fake.PaymentIntents() {
			if intent.Metadata["ride_id"] == rideID(h.visa.AccountID, "k") {
				if _, err := resolver.ResolveCharged(t.Context(), seen, "ann", intent.ID); err != nil {
					t.Fatal(err)
				}
			}
		}
		h.hailAs(t, h.visa, "k").must(t, 201, "")
		h.checkCharged(t, h.visa, "k")
	})

	t.Run("what was not charged is declined, for ever", func(t *testing.T) {
		t.Parallel()
		h := leave(t, fakestripe.DropBefore)
		seen := park(t, h)
		resolver := Resolver{Engine: h.engine, Stripe: h.process.stripe}
		if _, err := resolver.ResolveNotCharged(t.Context(), seen, "ann"); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			h.hailAs(t, h.visa, "k").must(t, 402, web.CodePaymentFailed)
		}
		ride := h.send(t, call{method: "GET", path: "/v1/rides/" + rideID(h.visa.AccountID, "k"), as: h.visa}).must(t, 200, "").ride
		if ride.Status != StatusDeclined {
			t.Errorf("the ride is %s", ride.Status)
		}
	})

	t.Run("a key without a ride gets one, which a second life of the key would find", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t, stepwise)
		h.exec(t, `ALTER TABLE rides ADD CONSTRAINT none CHECK (false) NOT VALID`)
		h.hailAs(t, h.visa, "k").must(t, 500, web.CodeInternal)
		h.exec(t, `ALTER TABLE rides DROP CONSTRAINT none`)
		if point := h.key(t, h.visa, "k").RecoveryPoint; point != phases.Started {
			t.Fatalf("the key stands at %s", point)
		}
		if err := (phases.Keys{Pool: h.pool}).Park(t.Context(), h.key(t, h.visa, "k"), "ann"); err != nil {
			t.Fatal(err)
		}
		h.expire(t)
		resolver := Resolver{Engine: h.engine, Stripe: h.process.stripe}
		if _, err := resolver.ResolveNotCharged(t.Context(), h.key(t, h.visa, "k"), "ann"); err != nil {
			t.Fatal(err)
		}
		ride := h.send(t, call{method: "GET", path: "/v1/rides/" + rideID(h.visa.AccountID, "k"), as: h.visa}).must(t, 200, "").ride
		if ride.Status != StatusDeclined {
			t.Errorf("the ride is %s", ride.Status)
		}
		reaper := phases.Completer{Engine: h.engine, Concurrency: 1, Retention: time.Nanosecond, Tombstones: time.Nanosecond}
		for range 2 { // the answer, then the tombstone
			if _, err := reaper.Once(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		h.hailAs(t, h.visa, "k").must(t, 422, web.CodeIdempotencyKeyExpired)
	})

	t.Run("a parked key can go back to the completer", func(t *testing.T) {
		t.Parallel()
		h := leave(t, fakestripe.DropAfter)
		if err := (phases.Keys{Pool: h.pool}).Retry(t.Context(), park(t, h), "ann"); err != nil {
			t.Fatal(err)
		}
		if counts := h.complete(t); counts.Finished != 1 {
			t.Errorf("the completer did %+v", counts)
		}
		h.checkCharged(t, h.visa, "k")
	})
}

func TestDraining(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.hailAs(t, h.visa, "done").must(t, 201, "")
	reached, release := h.holdCharge(t)
	running := make(chan reply)
	go func() { running <- h.hailAs(t, h.visa, "running") }()
	reached()
	h.service.Drain()
	if !h.service.Draining() {
		t.Error("it does not say that it drains")
	}
	h.hailAs(t, h.visa, "late").must(t, 503, web.CodeUnavailable)
	h.hailAs(t, h.visa, "done").must(t, 201, "") // what is finished is still answered
	if n := number(t, h, `SELECT count(*) FROM idempotency_keys WHERE key = 'late'`); n != 0 {
		t.Error("a late request claimed a key")
	}
	release()
	(<-running).must(t, 201, "")
}

func TestRevokedKeys(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	store := accounts.Store{Pool: h.pool}
	id, key, err := store.CreateKey(t.Context(), h.visa.AccountID)
	if err != nil {
		t.Fatal(err)
	}
	fresh := accounts.Credentials{AccountID: h.visa.AccountID, APIKey: key}
	h.hailAs(t, fresh, "k").must(t, 201, "")
	if r := h.hailAs(t, h.visa, "k").must(t, 201, ""); r.header.Get("Idempotent-Replayed") != "true" {
		t.Error("two keys of one account are two accounts")
	}
	if err := store.RevokeKey(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := store.RevokeKey(t.Context(), id); !errors.Is(err, accounts.ErrNoAPIKey) {
		t.Errorf("revoking twice: %v", err)
	}
	another := h.startProcess(t, nil) // which has cached nothing
	another.hailAs(t, fresh, "k").must(t, 401, web.CodeUnauthenticated)
	h.hailAs(t, h.visa, "k2").must(t, 201, "")
	if _, _, err := store.CreateKey(t.Context(), accounts.NewAccountID()); !errors.Is(err, accounts.ErrNoAccount) {
		t.Errorf("a key for nobody: %v", err)
	}
}

func TestChargesOff(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.hailAs(t, h.visa, "done").must(t, 201, "")
	off := h.startProcess(t, nil, func(c *phases.Config) { c.Paused = true })
	off.hailAs(t, h.visa, "new").must(t, 503, web.CodeUnavailable)
	off.hailAs(t, h.visa, "done").must(t, 201, "")
	off.send(t, call{method: "POST", path: "/v1/rides", body: `{}`, key: "bad", as: h.visa}).must(t, 422, web.CodeInvalidParameters)
	if n := len(h.fake.Ledger()); n != 1 {
		t.Errorf("Stripe was asked %d times", n)
	}
}

// TestEveryCut cuts the connection to Postgres and the one to Stripe at each
// message of a ride in turn.
func TestEveryCut(t *testing.T) {
	t.Parallel()
	for mode, settings := range map[string][]setting{"fused": nil, "stepwise": {stepwise}} {
		for _, kind := range []wire.Kind{wire.CutBefore, wire.CutAfter} {
			for _, recovery := range []string{"client", "completer"} {
				t.Run(fmt.Sprint(mode, "/", kind, "/", recovery), func(t *testing.T) {
					t.Parallel()
					h := newHarness(t, settings...)
					h.hailAs(t, h.visa, "warm").must(t, 201, "")
					for k := 1; ; k++ {
						key := fmt.Sprint("k", k)
						h.wire.Plan(wire.On(k, wire.Fault{Kind: kind}))
						r := h.hailAs(t, h.visa, key)
						uncut := h.wire.Messages() < k
						h.wire.Plan(wire.Nothing)
						if r.status != http.StatusCreated && r.status != http.StatusServiceUnavailable {
							t.Fatalf("message %d: %d %s", k, r.status, r.body)
						}
						h.expire(t)
						if recovery == "completer" {
							h.complete(t)
						}
						h.hailAs(t, h.visa, key).must(t, 201, "")
						h.checkCharged(t, h.visa, key)
						if uncut {
							return
						}
					}
				})
			}
		}
	}
}
