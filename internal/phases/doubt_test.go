package phases_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/proof/wire"
)

// TestAnAttemptResolvesALostAnswer: after a commit whose answer was lost, the
// attempt finds out by itself what happened, and writes a barrier before it
// goes on.
func TestAnAttemptResolvesALostAnswer(t *testing.T) {
	t.Parallel()
	for mode, test := range map[string]struct {
		options []option
		mode    string // of pgx
		trips   int
	}{
		"fused":                 {mode: "cache_statement", trips: 3},
		"stepwise":              {options: []option{stepwise}, mode: "cache_statement", trips: 5},
		"fused, for poolers":    {mode: "exec", trips: 3},
		"stepwise, for poolers": {options: []option{stepwise}, mode: "exec", trips: 5},
	} {
		for _, kind := range []wire.Kind{wire.CutBefore, wire.CutAfter} {
			for message := 1; message <= test.trips; message++ {
				t.Run(fmt.Sprintf("%s %s at message %d", mode, kind, message), func(t *testing.T) {
					t.Parallel()
					b := setup(t)
					b.url = pgtest.InMode(t, b.url, test.mode)
					b.engine = b.newEngine(t, b.wire, test.options...)
					b.mustRun(t, "warm")
					b.wire.Plan(wire.On(message, wire.Fault{Kind: kind}))
					b.mustRun(t, "k")
					b.checkDone(t, "k")
					barriers := 1
					if message == 1 { // the read, which commits nothing
						barriers = 0
					}
					if got := b.barriers(t); got != barriers {
						t.Errorf("%d barriers were written, want %d", got, barriers)
					}
					if got := len(b.carrier.sent()); got != 2 {
						t.Errorf("the carrier was asked %d times for two keys", got)
					}
				})
			}
		}
	}
}

// TestACommitThatShowsLate: when the row is read again, it doesn't show the
// transaction, because the server still works on it. The same transaction then
// runs a second time beside its first run, and only one of the two may write.
func TestACommitThatShowsLate(t *testing.T) {
	t.Parallel()
	pgtest.NotThroughPooler(t, "a pooler ends the transaction of a client that is gone")
	b := setup(t)
	b.url += "&lock_timeout=8s" // the record waits for its lock until the second run is there
	b.engine = b.newEngine(t, b.wire)
	b.mustRun(t, "warm")
	var blocker pgx.Tx
	b.wire.Plan(func(n int, _ []byte) wire.Fault {
		switch n {
		case 3: // the record: it is sent, but the row is locked, so it can't commit yet
			var err error
			if blocker, err = b.pool.Begin(t.Context()); err != nil {
				t.Error(err)
			}
			if _, err := blocker.Exec(t.Context(), `SELECT FROM idempotency_keys WHERE account_id = 'acct_1' AND key = 'k' FOR UPDATE`); err != nil {
				t.Error(err)
			}
			return wire.Fault{Kind: wire.CutSent}
		case 5: // the second run: let both go on, the first one first
			waitForLock(t, b)
			if err := blocker.Rollback(t.Context()); err != nil {
				t.Error(err)
			}
			pgtest.Eventually(t, "the first run has finished the key", func() bool {
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
	pgtest.Eventually(t, "a statement waits for a lock", func() bool {
		return value[int](t, b, `SELECT count(*) FROM `+pgtest.Activity()+`
			WHERE datname = current_database() AND wait_event_type = 'Lock'`) > 0
	})
}

// TestAnAttemptResolvesALostClaim: the token shows whether a claim whose answer
// was lost has committed. It is counted once.
func TestAnAttemptResolvesALostClaim(t *testing.T) {
	t.Parallel()
	for kind, barriers := range map[wire.Kind]int{wire.CutAfter: 1, wire.CutBefore: 0} {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			b := unfinished(t)
			b.wire.Plan(wire.On(2, wire.Fault{Kind: kind}))
			b.mustRun(t, "k")
			b.checkDone(t, "k")
			if got := b.show(t, "k").Attempts; got != 3 {
				t.Errorf("%d attempts are counted, want 3", got)
			}
			if got := b.barriers(t); got != barriers {
				t.Errorf("%d barriers, want %d", got, barriers)
			}
		})
	}
}

// unfinished returns a bundle whose key k is unfinished, and whose engine has
// prepared the statement of a claim: it is message 2 of the next attempt.
func unfinished(t *testing.T) *bundle {
	t.Helper()
	b := setup(t)
	b.mustRun(t, "warm")
	_ = b.sendOnce(t, "k", hooks{before: lost})
	_ = b.sendOnce(t, "k", hooks{before: lost})
	return b
}

// TestALostClaimThatAnotherWonIsGivenUp: once the row shows another claim,
// there is nothing more to find out.
func TestALostClaimThatAnotherWonIsGivenUp(t *testing.T) {
	t.Parallel()
	b := unfinished(t)
	b.wire.Plan(func(n int, _ []byte) wire.Fault {
		if n != 2 {
			return wire.Fault{}
		}
		b.exec(t, `UPDATE idempotency_keys SET lease_token = '00000000-0000-4000-8000-000000000001', lease_epoch = lease_epoch + 1,
			leased_until = now() + interval '1 hour' WHERE key = 'k'`)
		return wire.Fault{Kind: wire.CutBefore}
	})
	if _, err := b.run(t, "k"); !errors.Is(err, phases.ErrInUse) {
		t.Errorf("got %v, want ErrInUse", err)
	}
	if got := b.wire.Messages(); got > 8 {
		t.Errorf("it took %d messages to find out", got)
	}
}

// TestFirstSentAtCanBeClearedAfterALostAnswer: the attempt that froze the call
// is the first to send it, however it learned that its transaction had
// committed.
func TestFirstSentAtCanBeClearedAfterALostAnswer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.mustRun(t, "warm")
	b.wire.Plan(wire.On(2, wire.Fault{Kind: wire.CutAfter}))
	_ = b.sendOnce(t, "k", hooks{before: func(context.Context, int) error {
		return &phases.CallError{Class: phases.Transient, Err: errLost}
	}})
	if b.show(t, "k").FirstSentAt != nil {
		t.Error("nothing was sent, and the window has begun")
	}
}

// loseAnswerAndRead cuts off the answer to the COMMIT that is the n-th message,
// and the first read of the row behind it.
func loseAnswerAndRead(n int) wire.Plan {
	return func(at int, _ []byte) wire.Fault {
		switch at {
		case n:
			return wire.Fault{Kind: wire.CutAfter}
		case n + 1:
			return wire.Fault{Kind: wire.CutBefore}
		default:
			return wire.Fault{}
		}
	}
}

func (b *bundle) wantOneBarrier(t *testing.T) {
	t.Helper()
	if got := b.barriers(t); got != 1 {
		t.Errorf("%d barriers, want 1", got)
	}
}

// TestATransactionFencedByItsOwnEarlierRunIsBelieved: the transaction
// committed, but its answer was lost, and so was the first read of the row. The
// second run meets the fence.
func TestATransactionFencedByItsOwnEarlierRunIsBelieved(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.mustRun(t, "warm")
	b.wire.Plan(loseAnswerAndRead(3))
	b.mustRun(t, "k")
	b.checkDone(t, "k")
	b.wantOneBarrier(t)
}

// TestAReadIsFencedByItsOwnEarlierRun: as above, but the phase reads, so the
// second run meets the fence before the phase has decided anything.
func TestAReadIsFencedByItsOwnEarlierRun(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.flow = b.recording(func(tx *phases.Tx, key phases.Key, form bookingForm, out booking) (phases.Outcome, error) {
		var n int
		if err := tx.QueryRow(`SELECT 1`).Scan(&n); err != nil {
			return phases.Outcome{}, err
		}
		return record(tx, key, form, out)
	})
	b.engine = b.newEngine(t, b.wire, func(c *phases.Config) { c.Flows = []phases.Flow{b.flow} })
	b.mustRun(t, "warm")
	b.wire.Plan(loseAnswerAndRead(4)) // behind the look-up, the intent and the read
	b.mustRun(t, "k")
	b.checkDone(t, "k")
	b.wantOneBarrier(t)
}

// TestADoubtAboutAKeyThatIsFinishedAtOnceIsDurable: one transaction has inserted
// the key and stored its answer, and the answer to its COMMIT was lost. The row
// names no holder, so it may be another request's, and is answered like that.
func TestADoubtAboutAKeyThatIsFinishedAtOnceIsDurable(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.flow = phases.NewFlow("parcel", 1, phases.Atomic(phases.Finished, func(*phases.Tx, phases.Key) (phases.Outcome, error) {
		return phases.Finish(201, nil, []byte("{}")), nil
	}))
	b.engine = b.newEngine(t, b.wire, func(c *phases.Config) { c.Flows = []phases.Flow{b.flow} })
	b.mustRun(t, "warm")
	b.wire.Plan(wire.On(2, wire.Fault{Kind: wire.CutAfter}))
	b.mustRun(t, "k")
	b.wantOneBarrier(t)
}

// TestADoubtAboutAReapedKeyEndsAsExpired: the row has no answer any more.
func TestADoubtAboutAReapedKeyEndsAsExpired(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.mustRun(t, "warm")
	other := b.newEngine(t, nil)
	b.wire.Plan(func(n int, _ []byte) wire.Fault {
		if n != 2 {
			return wire.Fault{}
		}
		if _, err := other.Run(t.Context(), b.flow, request("k")); err != nil {
			t.Error(err)
		}
		b.exec(t, `UPDATE idempotency_keys
			SET reaped_at = now(), response_status = NULL, response_headers = NULL, response_body = NULL WHERE key = 'k'`)
		return wire.Fault{Kind: wire.CutBefore}
	})
	if _, err := b.run(t, "k"); !errors.Is(err, phases.ErrKeyExpired) {
		t.Errorf("got %v, want ErrKeyExpired", err)
	}
}

// TestAnAnswerOfAnotherWorkerIsAReplay: during a doubt another worker may
// finish the key, and its answer is a replay for this attempt. An answer that
// the attempt itself has stored is none.
func TestAnAnswerOfAnotherWorkerIsAReplay(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		kind    wire.Kind
		another bool
	}{
		"by itself":  {kind: wire.CutAfter},
		"by another": {kind: wire.CutBefore, another: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.mustRun(t, "warm")
			other := b.newEngine(t, nil)
			b.wire.Plan(func(n int, _ []byte) wire.Fault {
				if n != 3 { // the last transaction
					return wire.Fault{}
				}
				if test.another {
					b.expire(t)
					if _, err := other.Run(t.Context(), b.flow, request("k")); err != nil {
						t.Error(err)
					}
				}
				return wire.Fault{Kind: test.kind}
			})
			if got := b.mustRun(t, "k"); got.Replayed != test.another {
				t.Errorf("replayed: %t, want %t", got.Replayed, test.another)
			}
			b.checkDone(t, "k")
		})
	}
}

// TestADoubtDoesNotAnswerAnotherRequest: while the first COMMIT of a key is in
// doubt, a request with other parameters takes the key and is finished. The
// row's answer belongs to that request alone (I10).
func TestADoubtDoesNotAnswerAnotherRequest(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]string{"finished": "", "parked": "odd"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.mustRun(t, "warm")
			other := b.newEngine(t, nil)
			rival := request("k")
			rival.Params = `{"to":"mars"}`
			rival.Hash = func(version int) ([]byte, bool) { return make([]byte, sha256.Size), version == 1 }
			b.wire.Plan(func(n int, _ []byte) wire.Fault {
				if n != 2 { // the insert
					return wire.Fault{}
				}
				b.carrier.set(hooks{answer: end})
				if _, err := other.Run(t.Context(), b.flow, rival); (err != nil) != (end != "") {
					t.Error(err)
				}
				return wire.Fault{Kind: wire.CutBefore}
			})
			if got, err := b.run(t, "k"); !errors.Is(err, phases.ErrKeyReused) {
				t.Errorf("got %d %q, %v; want ErrKeyReused", got.Answer.Status, got.Answer.Body, err)
			}
		})
	}
}

// TestAReleaseInDoubtIsNotAnotherWorkers: when the answer to a release is lost,
// a released row proves nothing unless its epoch is the one that the release
// leaves.
func TestAReleaseInDoubtIsNotAnotherWorkers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.mustRun(t, "warm")
	registry := prometheus.NewRegistry()
	line := wire.NewPostgres()
	engine := b.newEngine(t, line, func(c *phases.Config) { c.Metrics = registry })
	// The release is the first message with the text of the failure, and the
	// read follows it.
	step := 0
	line.Plan(func(_ int, message []byte) wire.Fault {
		switch {
		case step == 0 && bytes.Contains(message, []byte("nothing left")):
			step = 1
			return wire.Fault{Kind: wire.CutBefore}
		case step == 1:
			step = 2
			return wire.Fault{Kind: wire.HoldBefore, Hold: func() {
				b.expire(t)
				b.complete(t) // another worker claims the key, fails, and releases it
			}}
		}
		return wire.Fault{}
	})
	b.carrier.set(hooks{before: func(context.Context, int) error { return errors.New("nothing left") }})
	if _, err := engine.Run(t.Context(), b.flow, request("k")); err == nil {
		t.Fatal("the attempt succeeded")
	}
	if got := b.show(t, "k"); got.LeaseEpoch < 3 {
		t.Fatalf("nobody else had the key: epoch %d", got.LeaseEpoch)
	}
	if got := counter(t, registry, "phases_fenced_total"); got != 1 {
		t.Errorf("the worker found its key in other hands %v times, want once", got)
	}
}

// TestADoubtMayShowTheAnswer: the COMMIT that says that the call is looked up
// from now on is lost, and another worker ends the key. The request gets that
// answer, and nobody looks for what is known.
func TestADoubtMayShowTheAnswer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.mustRun(t, "warm")
	line := wire.NewPostgres()
	engine := b.newEngine(t, line)
	step := 0
	line.Plan(func(_ int, message []byte) wire.Fault {
		switch {
		case step == 0 && bytes.Contains(message, []byte("odd_answer")):
			step = 1
			return wire.Fault{Kind: wire.CutBefore}
		case step == 1:
			step = 2
			return wire.Fault{Kind: wire.HoldBefore, Hold: func() {
				b.carrier.set(hooks{})
				b.expire(t)
				b.complete(t)
			}}
		}
		return wire.Fault{}
	})
	b.carrier.set(hooks{before: func(context.Context, int) error {
		return &phases.CallError{Class: phases.LookUp, Reason: "odd_answer", Err: errLost}
	}})
	result, err := engine.Run(t.Context(), b.flow, request("k"))
	if err != nil || result.Answer.Status != 201 || step != 2 {
		t.Errorf("after step %d: status %d, error %v", step, result.Answer.Status, err)
	}
	if b.carrier.finds > 0 {
		t.Errorf("looked up %d times", b.carrier.finds)
	}
	b.checkDone(t, "k")
}
