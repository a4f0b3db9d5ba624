package rides

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/web"
)

// TestAPanicInAPhase: the client gets 500, which is not stored, and a retry
// goes on from where the key stands.
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
					Prepare: freezeCharge, Do: h.process.stripe.Charge, Find: findCharge(h.process.stripe, accounts.Store{Pool: h.pool}), Record: recordCharge,
				}),
				phases.Atomic(phases.Finished, stageReceipt),
			}
			switch at {
			case 0:
				list[0] = phases.Atomic(pointRide, bomb)
			case 1:
				list[1] = phases.Foreign(pointCharge, phases.Call[payments.ChargeForm, payments.Charge]{
					Prepare: freezeCharge, Find: findCharge(h.process.stripe, accounts.Store{Pool: h.pool}), Record: recordCharge,
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
	h.hailAs(t, h.visa, "done").must(t, 201, "") // a finished key is still answered
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
		t.Error("the key belongs to the account, but the account's other API key gets no replay")
	}
	if err := store.RevokeKey(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := store.RevokeKey(t.Context(), id); !errors.Is(err, accounts.ErrNoAPIKey) {
		t.Errorf("revoking twice: %v", err)
	}
	another := h.startProcess(t, nil) // its cache is empty
	another.hailAs(t, fresh, "k").must(t, 401, web.CodeUnauthenticated)
	h.hailAs(t, h.visa, "k2").must(t, 201, "")
	if _, _, err := store.CreateKey(t.Context(), accounts.NewAccountID()); !errors.Is(err, accounts.ErrNoAccount) {
		t.Errorf("a key for nobody: %v", err)
	}
}

// TestADisabledAccount is refused, and what it has begun still ends.
func TestADisabledAccount(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.fake.Script(fakestripe.Fault{Kind: fakestripe.DropAfter})
	h.hailAs(t, h.visa, "k").must(t, 503, web.CodePaymentProcessorUnavailable)
	h.exec(t, `UPDATE accounts SET disabled_at = now() WHERE id = $1`, h.visa.AccountID)
	another := h.startProcess(t, nil) // its cache is empty
	another.hailAs(t, h.visa, "k").must(t, 401, web.CodeUnauthenticated)
	another.hailAs(t, h.second, "k").must(t, 201, "")
	h.expire(t)
	if counts := h.complete(t); counts.Finished != 1 {
		t.Errorf("the completer did %+v", counts)
	}
	h.exec(t, `UPDATE accounts SET disabled_at = NULL WHERE id = $1`, h.visa.AccountID)
	h.process = h.startProcess(t, nil)
	h.checkCharged(t, h.visa, "k")
}

func TestChargesOff(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.hailAs(t, h.visa, "done").must(t, 201, "")
	off := h.startProcess(t, nil, func(c *phases.Config) { c.Paused = ChargeFlows() })
	off.hailAs(t, h.visa, "new").must(t, 503, web.CodeUnavailable)
	off.hailAs(t, h.visa, "done").must(t, 201, "")
	off.send(t, call{method: "POST", path: "/v1/rides", body: `{}`, key: "bad", as: h.visa}).must(t, 422, web.CodeInvalidParameters)
	if n := len(h.fake.Ledger()); n != 1 {
		t.Errorf("Stripe was asked %d times", n)
	}
}
