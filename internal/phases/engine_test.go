package phases_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/proof/wire"
)

func TestRoundTripsAndTransactions(t *testing.T) {
	t.Parallel()

	for name, test := range map[string]struct {
		options      []option
		trips, xacts int
	}{
		"fused takes 3 round trips and 2 writing transactions":    {trips: 3, xacts: 2},
		"stepwise takes 5 round trips and 4 writing transactions": {options: []option{stepwise}, trips: 5, xacts: 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, test.options...)
			b.mustRun(t, "warm") // statements are prepared once per connection

			b.wire.Plan(wire.Nothing)
			first := b.mustRun(t, "k")
			if got := b.wire.Messages(); got != test.trips {
				t.Errorf("a fresh request took %d round trips, want %d", got, test.trips)
			}
			if got := b.transactions(t); got != test.xacts {
				t.Errorf("a fresh request took %d writing transactions, want %d", got, test.xacts)
			}
			b.checkDone(t, "k")

			b.wire.Plan(wire.Nothing)
			again := b.mustRun(t, "k")
			if got := b.wire.Messages(); got != 1 {
				t.Errorf("a replay took %d round trips, want 1", got)
			}
			if got := b.transactions(t); got != test.xacts {
				t.Errorf("a replay wrote %d transactions, want none", got-test.xacts)
			}
			if first.Replayed || !again.Replayed {
				t.Errorf("replayed: first %v, again %v", first.Replayed, again.Replayed)
			}
			if diff := cmp.Diff(first.Answer, again.Answer); diff != "" {
				t.Errorf("the replay differs: %s", diff)
			}
		})
	}
}

func TestWhatAnExistingKeyAnswers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.mustRun(t, "done")

	t.Run("another request under the key is refused", func(t *testing.T) {
		t.Parallel()
		other := request("done")
		other.Hash = func(int) ([]byte, bool) { return bytes.Repeat([]byte{1}, 32), true }
		if _, err := b.engine.Run(t.Context(), b.flow, other); !errors.Is(err, phases.ErrKeyReused) {
			t.Errorf("got %v, want ErrKeyReused", err)
		}
	})
	t.Run("the same key of another account is another key", func(t *testing.T) {
		t.Parallel()
		other := request("done")
		other.Account = "acct_2"
		result, err := b.engine.Run(t.Context(), b.flow, other)
		if err != nil || result.Replayed {
			t.Errorf("got replayed %v, %v; want a fresh run", result.Replayed, err)
		}
	})
	t.Run("a refused request leaves no key", func(t *testing.T) {
		t.Parallel()
		refused := request("refused")
		refused.Check = func() error { return errLost }
		if _, err := b.engine.Run(t.Context(), b.flow, refused); !errors.Is(err, errLost) {
			t.Errorf("got %v, want the error of Check", err)
		}
		if n := value[int](t, b, `SELECT count(*) FROM idempotency_keys WHERE key = 'refused'`); n != 0 {
			t.Error("a refused request was claimed")
		}
		b.mustRun(t, "refused")
	})
	t.Run("a later, stricter check does not contradict an answer", func(t *testing.T) {
		t.Parallel()
		strict := request("done")
		strict.Check = func() error { return errLost }
		if result, err := b.engine.Run(t.Context(), b.flow, strict); err != nil || !result.Replayed {
			t.Errorf("got %v, want a replay", err)
		}
	})
	t.Run("a key under an unknown canonical form is left to another version", func(t *testing.T) {
		t.Parallel()
		b.exec(t, `INSERT INTO idempotency_keys (account_id, key, flow, flow_version, realm, request_id, method, path,
			request_hash, canon_version, params, recovery_point, lease_epoch, attempts)
			VALUES ('acct_1', 'newer', 'parcel', 1, 'test', '', '', '', '', 99, '', 'started', 1, 1)`)
		if _, err := b.run(t, "newer"); !errors.Is(err, phases.ErrUnknownVersion) {
			t.Errorf("got %v, want ErrUnknownVersion", err)
		}
	})
}

func TestOnlyOneOfManyRequestsRuns(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, width := range []int{2, 8, 64} {
		key := fmt.Sprint("race-", width)
		var group sync.WaitGroup
		results := make(chan string, width)
		for range width {
			group.Go(func() {
				result, err := b.engine.Run(t.Context(), b.flow, request(key))
				switch {
				case errors.Is(err, phases.ErrInUse):
					results <- "in use"
				case err != nil:
					results <- err.Error()
				default:
					results <- fmt.Sprint(result.Answer.Status, " ", string(result.Answer.Body))
				}
			})
		}
		group.Wait()
		close(results)
		answers := map[string]int{}
		for result := range results {
			answers[result]++
		}
		delete(answers, "in use")
		if len(answers) != 1 {
			t.Errorf("%d requests at once got %v, want one answer and refusals", width, answers)
		}
		b.checkDone(t, key)
	}
	if got, want := len(b.carrier.sent()), 3; got != want {
		t.Errorf("the carrier was asked %d times, want %d", got, want)
	}
}

func TestTheClientDoesNotOwnTheRequest(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, cancel := context.WithCancel(t.Context())
	b.carrier.set(hooks{before: func(ctx context.Context, _ int) error {
		cancel() // the client goes away while the carrier is asked
		return ctx.Err()
	}})
	result, err := b.engine.Run(ctx, b.flow, request("k"))
	if err != nil || result.Answer.Status != 201 {
		t.Errorf("got %d, %v; want the request to run to its end", result.Answer.Status, err)
	}
	b.checkDone(t, "k")
}

func TestAnAsyncRequestIsPendingUntilItIsDone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	reached, leave := make(chan struct{}), make(chan struct{})
	b.carrier.set(hooks{before: func(context.Context, int) error {
		close(reached)
		<-leave
		return nil
	}})
	async := request("k")
	async.Async = true
	result, err := b.engine.Run(t.Context(), b.flow, async)
	if err != nil || !result.Pending || result.Key.RecoveryPoint != packed {
		t.Fatalf("got %+v, %v; want it pending at %s", result, err, packed)
	}
	<-reached
	if result, err := b.engine.Run(t.Context(), b.flow, async); err != nil || !result.Pending {
		t.Errorf("an asynchronous retry got %+v, %v; want it pending", result, err)
	}
	if _, err := b.run(t, "k"); !errors.Is(err, phases.ErrInUse) {
		t.Errorf("a synchronous retry got %v, want ErrInUse", err)
	}
	close(leave)
	pgtest.Eventually(t, "the answer is there", func() bool {
		result, err := b.engine.Run(t.Context(), b.flow, async)
		return err == nil && !result.Pending && string(result.Answer.Body) == "label B1"
	})
	b.checkDone(t, "k")
}

func TestAPanicReleasesTheKey(t *testing.T) {
	t.Parallel()
	boom := func() error { panic("boom") }

	for name, h := range map[string]hooks{
		"of the first phase": {pack: func(*phases.Tx, phases.Key) (*phases.Outcome, error) { return nil, boom() }},
		"of the call":        {before: func(context.Context, int) error { return boom() }},
		"after the booking":  {after: func(context.Context, int) error { return boom() }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.carrier.set(h)
			_, err := b.run(t, "k")
			var panicked *phases.PanicError
			if !errors.As(err, &panicked) || !strings.Contains(string(panicked.Stack), "toy_test.go") {
				t.Fatalf("got %v, want a PanicError with its stack", err)
			}
			b.carrier.set(hooks{})
			b.mustRun(t, "k")
			b.checkDone(t, "k")
		})
	}
}

// TestALaterAttemptIsStepwise: only a key's first attempt is fused. What a
// later attempt gets done is durable point by point, even if a later phase
// fails.
func TestALaterAttemptIsStepwise(t *testing.T) {
	t.Parallel()
	for name, resume := range map[string]func(t *testing.T, b *bundle){
		"by a client":      func(t *testing.T, b *bundle) { t.Helper(); b.mustRun(t, "k") },
		"by the completer": func(t *testing.T, b *bundle) { t.Helper(); b.expire(t); b.complete(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			_ = b.sendOnce(t, "k", hooks{after: lost})
			resume(t, b)
			b.checkDone(t, "k")
			pgtest.NotOnCitus(t, "it counts transactions with a trigger")
			if got := value[int](t, b, `SELECT count(*) FROM phase_log WHERE key = 'k' AND to_point = $1`, booked); got != 1 {
				t.Errorf("the key was %d times at %s, want once, in a transaction of its own", got, booked)
			}
		})
	}
}
