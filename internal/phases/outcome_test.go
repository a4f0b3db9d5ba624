package phases_test

import (
	"errors"
	"testing"

	"github.com/rocketrides/rocketrides/internal/phases"
)

func TestOutcomes(t *testing.T) {
	t.Parallel()

	t.Run("a refusal is an answer, and is replayed", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.carrier.set(hooks{answer: "refused"})
		for _, replayed := range []bool{false, true} {
			result, err := b.run(t, "k")
			if err != nil || result.Answer.Status != 402 || result.Replayed != replayed {
				t.Errorf("got %d replayed=%v, %v", result.Answer.Status, result.Replayed, err)
			}
		}
		if got := len(b.carrier.sent()); got != 1 {
			t.Errorf("%d sends, want 1", got)
		}
	})

	t.Run("what the other side still works on is looked up by its ref", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.carrier.set(hooks{answer: "working"})
		var waiting *phases.ForeignError
		if _, err := b.run(t, "k"); !errors.As(err, &waiting) {
			t.Fatalf("got %v, want a ForeignError", err)
		}
		var ref string
		b.carrier.set(hooks{find: func(sent phases.Sent[bookingForm]) (booking, error) {
			ref = sent.Ref
			return booking{Number: sent.Ref, Status: "booked"}, nil
		}})
		b.expire(t)
		if counts := b.complete(t); counts.Finished != 1 {
			t.Errorf("the completer did %+v", counts)
		}
		if ref != "B1" || len(b.carrier.sent()) != 1 {
			t.Errorf("looked up %q after %d sends, want B1 after 1", ref, len(b.carrier.sent()))
		}
		b.checkDone(t, "k")
	})

	t.Run("what a person must decide is parked, with an audit record", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.carrier.set(hooks{answer: "odd"})
		for range 2 {
			if _, err := b.run(t, "k"); !errors.Is(err, phases.ErrParked) {
				t.Errorf("got %v, want ErrParked", err)
			}
		}
		got := b.show(t, "k")
		if got.ParkedReason != "odd_booking" || got.RecoveryPoint != packed || got.Leased {
			t.Errorf("parked as %+v", got)
		}
		if n := value[int](t, b, `SELECT count(*) FROM audit_records WHERE action = 'key.parked'`); n != 1 {
			t.Errorf("%d audit records, want 1", n)
		}
	})

	for name, outcome := range map[string]phases.Outcome{
		"finish": phases.Finish(409, nil, []byte("no")),
		"park":   phases.Park("early", ""),
		"wait":   phases.Wait(0, ""),
	} {
		for mode, options := range map[string][]option{"fused": nil, "stepwise": {stepwise}} {
			t.Run("the first phase may "+name+" before anything is sent, "+mode, func(t *testing.T) {
				t.Parallel()
				b := setup(t, options...)
				b.carrier.set(hooks{pack: func(tx *phases.Tx, key phases.Key) (*phases.Outcome, error) {
					tx.Queue(`INSERT INTO parcels (account_id, key, writes) VALUES ($1, $2, 1)`, key.Account, key.Key)
					return &outcome, nil
				}})
				_, err := b.run(t, "k")
				got := b.show(t, "k")
				if finished := got.FinishedAt != nil; finished != (name == "finish") || finished != (err == nil) {
					t.Errorf("finished: %v, %v", finished, err)
				}
				if parked := got.ParkedReason == "early"; parked != (name == "park") {
					t.Errorf("parked: %q", got.ParkedReason)
				}
				if n := value[int](t, b, `SELECT count(*) FROM parcels`); n != 1 || len(b.carrier.sent()) != 0 {
					t.Errorf("%d parcels, %d sends; want 1 and none", n, len(b.carrier.sent()))
				}
			})
		}
	}
}

func TestAKeyThatWasReapedBeforeHasExpired(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]option{"fused": nil, "stepwise": {stepwise}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, options...)
			b.exec(t, `INSERT INTO parcels (account_id, key, writes) VALUES ('acct_1', 'k', 1)`)
			for range 2 {
				if _, err := b.run(t, "k"); !errors.Is(err, phases.ErrKeyExpired) {
					t.Errorf("got %v, want ErrKeyExpired", err)
				}
			}
			if n := value[int](t, b, `SELECT count(*) FROM idempotency_keys WHERE reaped_at IS NULL`); n != 0 || len(b.carrier.sent()) != 0 {
				t.Errorf("%d keys were made again, with %d sends", n, len(b.carrier.sent()))
			}
		})
	}
}

// TestOnlyQueueOnceMeansExpired: if another statement violates a constraint,
// that is a mistake, and is reported as one.
func TestOnlyQueueOnceMeansExpired(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(t, `INSERT INTO parcels (account_id, key, writes) VALUES ('acct_1', 'k', 1)`)
	b.carrier.set(hooks{pack: func(tx *phases.Tx, key phases.Key) (*phases.Outcome, error) {
		tx.Queue(`INSERT INTO parcels (account_id, key, writes) VALUES ($1, $2, 1)`, key.Account, key.Key)
		outcome := phases.Advance()
		return &outcome, nil
	}})
	if _, err := b.run(t, "k"); err == nil || errors.Is(err, phases.ErrKeyExpired) {
		t.Errorf("got %v, want the violation", err)
	}
}

// TestAPhaseCannotIgnoreAReadThatFailed: the server has rolled the transaction
// back, so what the phase decides afterwards must not count.
func TestAPhaseCannotIgnoreAReadThatFailed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.carrier.set(hooks{pack: func(tx *phases.Tx, key phases.Key) (*phases.Outcome, error) {
		var n int
		_ = tx.QueryRow(`SELECT 1/0`).Scan(&n)
		tx.Queue(`INSERT INTO parcels (account_id, key, writes) VALUES ($1, $2, 1)`, key.Account, key.Key)
		outcome := phases.Advance()
		return &outcome, nil
	}})
	if _, err := b.run(t, "k"); err == nil || errors.Is(err, phases.ErrUnavailable) {
		t.Errorf("got %v, want the error of the read", err)
	}
	if n := value[int](t, b, `SELECT count(*) FROM idempotency_keys`); n != 0 || b.barriers(t) != 0 {
		t.Errorf("%d keys and %d barriers were written, want none", n, b.barriers(t))
	}
}
