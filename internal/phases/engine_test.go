package phases_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/postgres"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/internal/wire"
)

func TestHappyWay(t *testing.T) {
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
			b.mustRun(t, "warm") // statements get prepared once per connection

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

// transactions is the number of transactions that wrote the row of key k.
func (b *bundle) transactions(t *testing.T) int {
	t.Helper()
	return value[int](t, b, `SELECT count(DISTINCT xid) FROM phase_log WHERE key = 'k'`)
}

func TestLookUp(t *testing.T) {
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
	t.Run("a refused request consumes no key", func(t *testing.T) {
		t.Parallel()
		refused := request("refused")
		refused.Check = func() error { return errLost }
		if _, err := b.engine.Run(t.Context(), b.flow, refused); !errors.Is(err, errLost) {
			t.Errorf("got %v, want the error of Check", err)
		}
		b.mustRun(t, "refused")
	})
	t.Run("a stricter check never contradicts an answer", func(t *testing.T) {
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

func TestUnknownFlowsAndRealmsAreLeftAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	hang := make(chan struct{})
	close(hang)
	b.carrier.set(hooks{before: func(context.Context, int) error { return errLost }})
	for _, key := range []string{"version", "realm", "mine"} {
		if _, err := b.run(t, key); err == nil {
			t.Fatal("the carrier answered")
		}
	}
	b.carrier.set(hooks{})
	b.exec(t, `UPDATE idempotency_keys SET flow_version = 2 WHERE key = 'version'`)
	b.exec(t, `UPDATE idempotency_keys SET realm = 'live' WHERE key = 'realm'`)
	b.expire(t)

	for _, key := range []string{"version", "realm"} {
		if _, err := b.run(t, key); !errors.Is(err, phases.ErrUnknownVersion) {
			t.Errorf("%s: got %v, want ErrUnknownVersion", key, err)
		}
	}
	if counts := b.complete(t); counts != (phases.Counts{Finished: 1}) {
		t.Errorf("the completer did %+v, want only the key that it knows", counts)
	}
	// The next version finishes what it knows, and what is older too.
	next := b.newEngine(t, nil, func(c *phases.Config) {
		c.Flows = []phases.Flow{parcels(b.carrier, 1), parcels(b.carrier, 2)}
	})
	if counts, err := b.completer(next).Once(t.Context()); err != nil || counts.Finished != 1 {
		t.Errorf("the newer completer did %+v, %v", counts, err)
	}
}

func TestOneOfManyRuns(t *testing.T) {
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
			t.Errorf("%d at once were answered with %v, want one answer and refusals", width, answers)
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

func TestAsync(t *testing.T) {
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
	waitFor(t, func() bool {
		result, err := b.engine.Run(t.Context(), b.flow, async)
		return err == nil && !result.Pending && string(result.Answer.Body) == "label B1"
	})
	b.checkDone(t, "k")
}

// waitFor polls a condition that something else brings about.
func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatal("it never happened")
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func TestPanics(t *testing.T) {
	t.Parallel()
	boom := func() error { panic("boom") }

	for name, h := range map[string]hooks{
		"in the first phase": {pack: func(*phases.Tx, phases.Key) (*phases.Outcome, error) { return nil, boom() }},
		"in the call":        {before: func(context.Context, int) error { return boom() }},
		"after the call":     {after: func(context.Context, int) error { return boom() }},
	} {
		t.Run(name+" the key is given back and goes on", func(t *testing.T) {
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

func TestNoOutcomeIsAnError(t *testing.T) {
	t.Parallel()
	b := setup(t)
	flow := phases.NewFlow("empty", 1, phases.Atomic(phases.Finished, func(*phases.Tx, phases.Key) (phases.Outcome, error) {
		return phases.Outcome{}, nil
	}))
	if _, err := b.engine.Run(t.Context(), flow, request("none")); err == nil {
		t.Error("a phase without an outcome passed")
	}
	flow = phases.NewFlow("endless", 1, phases.Atomic(phases.Finished, func(*phases.Tx, phases.Key) (phases.Outcome, error) {
		return phases.Advance(), nil
	}))
	if _, err := b.engine.Run(t.Context(), flow, request("none")); err == nil {
		t.Error("a last phase without an answer passed")
	}
	if got := value[int](t, b, `SELECT count(*) FROM idempotency_keys`); got != 0 {
		t.Errorf("%d keys were left behind, want none", got)
	}
}

func TestSerializationFailuresAreRunAgain(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"40001", "40P01", "55P03"} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.exec(t, `CREATE SEQUENCE failures`)
			b.exec(t, fmt.Sprintf(`
				CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
				BEGIN
				    IF nextval('failures') <= 3 THEN RAISE EXCEPTION 'try again' USING ERRCODE = '%s'; END IF;
				    RETURN NEW;
				END $$`, code))
			b.exec(t, `CREATE TRIGGER fail BEFORE UPDATE ON parcels FOR EACH ROW EXECUTE FUNCTION fail()`)
			b.mustRun(t, "k")
			b.checkDone(t, "k")
			if got := len(b.carrier.sent()); got != 1 {
				t.Errorf("the carrier was asked %d times, want once", got)
			}

			b.exec(t, `ALTER SEQUENCE failures RESTART WITH 1 MINVALUE -1000`)
			b.exec(t, `SELECT setval('failures', -1000)`)
			if _, err := b.run(t, "never"); !errors.Is(err, phases.ErrUnavailable) {
				t.Errorf("an endless storm gave %v, want ErrUnavailable", err)
			}
		})
	}
}

func TestEveryExecModeOfPgxWorks(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		for _, step := range []bool{false, true} {
			t.Run(fmt.Sprint(mode, " stepwise=", step), func(t *testing.T) {
				t.Parallel()
				b := setup(t)
				separator := "?"
				if strings.Contains(b.url, "?") {
					separator = "&"
				}
				pool := pgtest.Open(t, postgres.Options{URL: b.url + separator + "default_query_exec_mode=" + mode})
				b.engine = b.newEngine(t, nil, func(c *phases.Config) { c.Pool, c.Stepwise = pool, step })
				b.carrier.set(hooks{before: func(_ context.Context, n int) error {
					if n == 1 {
						return errLost
					}
					return nil
				}})
				if _, err := b.run(t, "k"); err == nil {
					t.Fatal("the carrier answered")
				}
				b.mustRun(t, "k")
				b.checkDone(t, "k")
				if _, err := b.completer(b.engine).Once(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()

	t.Run("paused, new keys are refused before a claim and unfinished ones wait", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.mustRun(t, "done")
		b.carrier.set(hooks{before: func(context.Context, int) error { return errLost }})
		if _, err := b.run(t, "open"); err == nil {
			t.Fatal("the carrier answered")
		}
		b.carrier.set(hooks{})
		b.expire(t)
		b.engine = b.newEngine(t, nil, func(c *phases.Config) { c.Paused = true })
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

	t.Run("busy, a request is refused before a claim", func(t *testing.T) {
		t.Parallel()
		b := setup(t, func(c *phases.Config) { c.MaxInFlight = 1 })
		reached, leave := make(chan struct{}), make(chan struct{})
		b.carrier.set(hooks{before: func(context.Context, int) error { close(reached); <-leave; return nil }})
		done := make(chan error)
		go func() {
			_, err := b.engine.Run(context.WithoutCancel(t.Context()), b.flow, request("first"))
			done <- err
		}()
		<-reached
		if _, err := b.run(t, "second"); !errors.Is(err, phases.ErrBusy) {
			t.Errorf("got %v, want ErrBusy", err)
		}
		close(leave)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
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
	if err := <-done; !errors.Is(err, phases.ErrAborted) {
		t.Errorf("the attempt ended with %v, want ErrAborted", err)
	}
	if _, err := engine.Run(t.Context(), b.flow, request("late")); !errors.Is(err, phases.ErrDraining) {
		t.Errorf("a late request got %v, want ErrDraining", err)
	}
	// The key was given back, due at once: another process goes on without waiting for the lease.
	b.carrier.set(hooks{})
	if counts := b.complete(t); counts.Finished != 1 {
		t.Errorf("another process did %+v, want it to go on at once", counts)
	}
	b.checkDone(t, "k")
}

func TestFlowsThatAreNoFlowsPanic(t *testing.T) {
	t.Parallel()
	nop := func(*phases.Tx, phases.Key) (phases.Outcome, error) { return phases.Advance(), nil }
	for name, construct := range map[string]func(){
		"no phase":       func() { phases.NewFlow("f", 1) },
		"no name":        func() { phases.NewFlow("", 1, phases.Atomic(phases.Finished, nop)) },
		"no version":     func() { phases.NewFlow("f", 0, phases.Atomic(phases.Finished, nop)) },
		"an empty point": func() { phases.NewFlow("f", 1, phases.Atomic("", nop), phases.Atomic(phases.Finished, nop)) },
		"a repeated point": func() {
			phases.NewFlow("f", 1, phases.Atomic("a", nop), phases.Atomic("a", nop), phases.Atomic(phases.Finished, nop))
		},
		"started as a goal": func() {
			phases.NewFlow("f", 1, phases.Atomic(phases.Started, nop), phases.Atomic(phases.Finished, nop))
		},
		"no end": func() { phases.NewFlow("f", 1, phases.Atomic("a", nop)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			defer func() {
				if recover() == nil {
					t.Error("it was accepted")
				}
			}()
			construct()
		})
	}
}
