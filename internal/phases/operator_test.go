package phases_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/postgres"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/proof/wire"
)

func TestAnOperatorParksAHeldKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	asleep, wake := make(chan struct{}), make(chan struct{})
	b.carrier.set(hooks{after: func(context.Context, int) error { close(asleep); <-wake; return nil }})
	done := make(chan error, 1)
	go func() {
		_, err := b.engine.Run(context.WithoutCancel(t.Context()), b.flow, request("k"))
		done <- err
	}()
	<-asleep
	if err := b.keys().Park(t.Context(), b.show(t, "k"), "ann"); err != nil {
		t.Fatal(err)
	}
	parked := b.show(t, "k")
	if _, err := b.engine.Resolve(t.Context(), parked, "ann", "not booked", notBooked); !errors.Is(err, phases.ErrStillCalling) {
		t.Errorf("resolving while the worker may still be calling: %v, want ErrStillCalling", err)
	}
	close(wake)
	if err := <-done; !errors.Is(err, phases.ErrParked) {
		t.Errorf("the worker got %v, want ErrParked", err)
	}
	if got := b.show(t, "k"); got.RecoveryPoint != packed || got.ParkedReason != "operator" {
		t.Errorf("the worker moved a parked key: %+v", got)
	}
	b.expire(t)
	if err := b.keys().Park(t.Context(), b.show(t, "k"), "ann"); !errors.Is(err, phases.ErrParkedAlready) {
		t.Errorf("parking twice: %v, want ErrParkedAlready", err)
	}
	if err := b.keys().Retry(t.Context(), b.show(t, "k"), "ann"); err != nil {
		t.Fatal(err)
	}
	b.carrier.set(hooks{})
	if counts := b.complete(t); counts.Finished != 1 {
		t.Errorf("after retry the completer did %+v", counts)
	}
	b.checkDone(t, "k")
	for _, action := range []string{"key.parked", "key.retried"} {
		if n := value[int](t, b, `SELECT count(*) FROM audit_records WHERE action = $1 AND data->>'by' = 'ann'`, action); n != 1 {
			t.Errorf("%d audit records of %s, want 1", n, action)
		}
	}
	if err := b.keys().Retry(t.Context(), b.show(t, "k"), "ann"); !errors.Is(err, phases.ErrFinished) {
		t.Errorf("retrying a finished key: %v, want ErrFinished", err)
	}
	if err := b.keys().Park(t.Context(), b.show(t, "k"), "ann"); !errors.Is(err, phases.ErrFinished) {
		t.Errorf("parking a finished key: %v, want ErrFinished", err)
	}
}

func notBooked(tx *phases.Tx, key phases.Key) (phases.Outcome, error) {
	tx.Queue(`UPDATE parcels SET booking = 'none' WHERE account_id = $1 AND key = $2`, key.Account, key.Key)
	return phases.Finish(402, nil, []byte("not booked")), nil
}

func TestResolving(t *testing.T) {
	t.Parallel()
	park := func(t *testing.T) *bundle {
		t.Helper()
		b := setup(t)
		b.carrier.set(hooks{answer: "odd"})
		_, _ = b.run(t, "k")
		b.carrier.set(hooks{})
		return b
	}

	t.Run("with a result, the flow goes on to its end in one transaction", func(t *testing.T) {
		t.Parallel()
		b := park(t)
		seen := b.show(t, "k")
		before := b.transactions(t)
		result, err := b.engine.ResolveResult(t.Context(), seen, "ann", "booked B7", booking{Number: "B7", Status: "booked"})
		if err != nil || string(result.Answer.Body) != "label B7" {
			t.Fatalf("got %q, %v", result.Answer.Body, err)
		}
		if got := b.transactions(t) - before; got != 1 {
			t.Errorf("it took %d transactions, want 1", got)
		}
		b.checkDone(t, "k")
		if got := b.mustRun(t, "k"); string(got.Answer.Body) != "label B7" || !got.Replayed {
			t.Errorf("a retry got %q", got.Answer.Body)
		}
		if _, err := b.engine.ResolveResult(t.Context(), seen, "ann", "again", booking{Number: "B8", Status: "booked"}); err == nil {
			t.Error("a key was resolved twice")
		}
		if n := value[int](t, b, `SELECT count(*) FROM audit_records WHERE action = 'key.resolved' AND data->>'decision' = 'booked B7'`); n != 1 {
			t.Errorf("%d audit records, want 1", n)
		}
	})

	t.Run("without one, the decision is the answer", func(t *testing.T) {
		t.Parallel()
		b := park(t)
		result, err := b.engine.Resolve(t.Context(), b.show(t, "k"), "ann", "not booked", notBooked)
		if err != nil || result.Answer.Status != 402 {
			t.Fatalf("got %d, %v", result.Answer.Status, err)
		}
		if got, err := b.run(t, "k"); err != nil || got.Answer.Status != 402 || !got.Replayed {
			t.Errorf("a retry got %d, %v", got.Answer.Status, err)
		}
	})

	t.Run("a key that changed in the meantime is left alone", func(t *testing.T) {
		t.Parallel()
		b := park(t)
		seen := b.show(t, "k")
		if err := b.keys().Retry(t.Context(), seen, "bob"); err != nil {
			t.Fatal(err)
		}
		if _, err := b.engine.Resolve(t.Context(), seen, "ann", "not booked", notBooked); !errors.Is(err, phases.ErrChanged) {
			t.Errorf("got %v, want ErrChanged", err)
		}
		if _, err := b.engine.Resolve(t.Context(), b.show(t, "k"), "ann", "not booked", notBooked); !errors.Is(err, phases.ErrNotParked) {
			t.Errorf("got %v, want ErrNotParked", err)
		}
	})
}

// TestALostDecisionIsUnclear: a decision whose connection is lost may have been
// committed, and its error says that the database is unavailable.
func TestALostDecisionIsUnclear(t *testing.T) {
	t.Parallel()
	for sent, fault := range map[string]wire.Kind{"begin": wire.CutBefore, "commit": wire.CutAfter} {
		t.Run(sent, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			_ = b.sendOnce(t, "k", hooks{before: lost})
			seen := b.show(t, "k")
			keys := phases.Keys{Pool: pgtest.Open(t, postgres.Options{URL: b.url, DialFunc: b.wire.Dial})}
			b.wire.Plan(func(_ int, message []byte) wire.Fault {
				if strings.Contains(b.wire.Summary(message), "query "+sent) {
					return wire.Fault{Kind: fault}
				}
				return wire.Fault{}
			})
			if err := keys.Park(t.Context(), seen, "ann"); !errors.Is(err, phases.ErrUnavailable) {
				t.Errorf("got %v, want ErrUnavailable", err)
			}
			if got, want := b.show(t, "k").ParkedReason != "", sent == "commit"; got != want {
				t.Errorf("parked: %t, want %t", got, want)
			}
		})
	}
}

func TestListing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.mustRun(t, "done")
	_ = b.sendOnce(t, "open", hooks{before: lost})
	b.carrier.set(hooks{answer: "odd"})
	_, _ = b.run(t, "parked")
	b.exec(t, `UPDATE idempotency_keys SET created_at = now() - interval '1 hour' WHERE key = 'open'`)
	for name, test := range map[string]struct {
		filter phases.Filter
		want   []string
	}{
		"all, the oldest first":   {want: []string{"open", "done", "parked"}},
		"parked":                  {filter: phases.Filter{Parked: true}, want: []string{"parked"}},
		"unfinished":              {filter: phases.Filter{Unfinished: true}, want: []string{"open", "parked"}},
		"older than half an hour": {filter: phases.Filter{OlderThan: 30 * time.Minute}, want: []string{"open"}},
		"of another account":      {filter: phases.Filter{Account: "acct_2"}},
		"no more than one":        {filter: phases.Filter{Limit: 1}, want: []string{"open"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found, err := b.keys().List(t.Context(), test.filter)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, record := range found {
				got = append(got, record.Key)
			}
			if len(got) != len(test.want) {
				t.Fatalf("got %v, want %v", got, test.want)
			}
			for i := range got {
				if got[i] != test.want[i] {
					t.Errorf("got %v, want %v", got, test.want)
				}
			}
		})
	}
}

func TestTheOperatorChangesOnlyWhatWasSeen(t *testing.T) {
	t.Parallel()
	type change func(k phases.Keys, ctx context.Context, seen phases.Record, by string) error
	for name, change := range map[string]change{"retry": phases.Keys.Retry, "park": phases.Keys.Park} {
		for what, set := range map[string]string{
			"was claimed since":  `lease_epoch = lease_epoch + 1`,
			"was finished since": `recovery_point = 'finished', ` + finishedByAnother,
		} {
			t.Run(name+" a key that "+what, func(t *testing.T) {
				t.Parallel()
				b := setup(t)
				_ = b.sendOnce(t, "k", hooks{before: lost})
				seen := b.show(t, "k")
				b.exec(t, `UPDATE idempotency_keys SET `+set)
				before := b.snapshot(t, "k")
				b.unwatch(t)
				if err := change(b.keys(), t.Context(), seen, "ann"); !errors.Is(err, phases.ErrChanged) {
					t.Errorf("got %v, want ErrChanged", err)
				}
				if after := b.snapshot(t, "k"); after != before {
					t.Errorf("it changed\n%s to\n%s", before, after)
				}
			})
		}
	}
}

// TestRetryFencesTheWorker: it also forgets the key's failures, and makes the
// key due once the worker can't be calling any more.
func TestRetryFencesTheWorker(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.mustRun(t, "warm")
	b.wire.Plan(func(n int, _ []byte) wire.Fault {
		if n == 3 { // after the call, before its record
			b.exec(t, `UPDATE idempotency_keys SET run_after = now() + interval '1 hour', failures = 2 WHERE key = 'k'`)
			if err := b.keys().Retry(t.Context(), b.show(t, "k"), "ann"); err != nil {
				t.Error(err)
			}
		}
		return wire.Fault{}
	})
	_, err := b.run(t, "k")
	got := b.show(t, "k")
	if got.RecoveryPoint != packed || err == nil {
		t.Errorf("the worker went on to %s after the key was taken from it (%v)", got.RecoveryPoint, err)
	}
	if got.Failures != 0 {
		t.Errorf("%d failures are remembered", got.Failures)
	}
	if counts := b.complete(t); counts != (phases.Counts{}) {
		t.Errorf("the completer did %+v, want the lease to be waited for", counts)
	}
	b.exec(t, `UPDATE idempotency_keys SET leased_until = now(), calling_until = now() WHERE key = 'k'`)
	if counts := b.complete(t); counts.Finished != 1 {
		t.Errorf("the completer did %+v, want the key to be due", counts)
	}
	b.checkDone(t, "k")
}

func TestResolveRefusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.carrier.set(hooks{answer: "odd"})
	_, _ = b.run(t, "k")
	seen := b.show(t, "k")
	for name, change := range map[string]func(*phases.Record){
		"another realm":   func(r *phases.Record) { r.Realm = "live" },
		"another version": func(r *phases.Record) { r.Version = 9 },
	} {
		other := seen
		change(&other)
		if _, err := b.engine.Resolve(t.Context(), other, "ann", "no", notBooked); !errors.Is(err, phases.ErrUnknownVersion) {
			t.Errorf("%s: %v, want ErrUnknownVersion", name, err)
		}
		if _, err := b.engine.ResolveResult(t.Context(), other, "ann", "yes", booking{}); !errors.Is(err, phases.ErrUnknownVersion) {
			t.Errorf("%s, with a result: %v, want ErrUnknownVersion", name, err)
		}
	}
	seen.ForeignForm = ""
	if _, err := b.engine.ResolveResult(t.Context(), seen, "ann", "yes", booking{}); !errors.Is(err, phases.ErrNoCall) {
		t.Errorf("without a form: %v, want ErrNoCall", err)
	}
}

// TestNobodyDecidesDuringACall: parking and retrying a key don't end the time
// in which its former worker may still be calling.
func TestNobodyDecidesDuringACall(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.carrier.set(hooks{before: func(context.Context, int) error {
		for _, change := range []func(context.Context, phases.Record, string) error{b.keys().Park, b.keys().Retry, b.keys().Park} {
			if err := change(t.Context(), b.show(t, "k"), "ann"); err != nil {
				t.Error(err)
			}
		}
		if err := b.keys().Park(t.Context(), b.show(t, "k"), "ann"); !errors.Is(err, phases.ErrParkedAlready) {
			t.Errorf("parking a parked key: %v, want ErrParkedAlready", err)
		}
		if _, err := b.engine.Resolve(t.Context(), b.show(t, "k"), "ann", "not booked", notBooked); !errors.Is(err, phases.ErrStillCalling) {
			t.Errorf("resolving during the call: %v, want ErrStillCalling", err)
		}
		return nil
	}})
	if _, err := b.run(t, "k"); !errors.Is(err, phases.ErrParked) {
		t.Errorf("the worker got %v, want ErrParked", err)
	}
}

// TestOperatorsReadByAnIndex: what is unfinished, and the key of an account, are
// found among ten million that are finished, also by a plan that is kept.
func TestOperatorsReadByAnIndex(t *testing.T) {
	t.Parallel()
	pgtest.NotOnCitus(t, "its plans are those of its nodes")
	b := setup(t)
	conn := pgtest.Connect(t, b.url)
	for name, c := range map[string]struct {
		read func(phases.Keys) error
		want []string
		cond string // of the index, if the plan is one scan
	}{
		"unfinished": {func(k phases.Keys) error {
			_, err := k.List(t.Context(), phases.Filter{Unfinished: true})
			return err
		}, []string{"idempotency_keys_due_idx", "idempotency_keys_parked_idx"}, ""},
		"one": {func(k phases.Keys) error {
			_, err := k.Show(t.Context(), "acct_1", "k")
			return err
		}, []string{"idempotency_keys_pkey"}, "account_id"},
	} {
		pool, seen := pgtest.Traced(t, b.url)
		if err := c.read(phases.Keys{Pool: pool}); err != nil {
			t.Fatal(err)
		}
		for sql := range seen.Texts() {
			plan := pgtest.ExplainGeneric(t, conn, sql)
			if got := plan.Scans(); !slices.Equal(got, c.want) || !strings.Contains(plan.Cond, c.cond) {
				t.Errorf("%s reads %s by %q, want %s by %q", name, got, plan.Cond, c.want, c.cond)
			}
		}
	}
}
