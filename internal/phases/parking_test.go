package phases_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/proof/wire"
)

func TestFailuresThatWouldRepeatPark(t *testing.T) {
	t.Parallel()
	poison := func(*phases.Tx, phases.Key) (*phases.Outcome, error) { return nil, errors.New("poison") }

	t.Run("when the completer finds them", func(t *testing.T) {
		t.Parallel()
		b := setup(t, stepwise)
		b.carrier.set(hooks{pack: poison})
		for range 20 { // a client must not be able to park a key by retrying
			if _, err := b.run(t, "k"); errors.Is(err, phases.ErrParked) {
				t.Fatal("a client parked a key")
			}
		}
		for range 3 {
			b.expire(t)
			b.complete(t)
		}
		if got := b.show(t, "k"); got.ParkedReason != "max_attempts" || got.Failures != 2 {
			t.Errorf("after three failures: parked for %q with %d failures", got.ParkedReason, got.Failures)
		}
		if got := value[string](t, b, `SELECT data->>'reason' FROM audit_records WHERE action = 'key.parked'`); got != "max_attempts" {
			t.Errorf("the audit record says %q", got)
		}
	})

	t.Run("a violated constraint parks at once", func(t *testing.T) {
		t.Parallel()
		b := setup(t, stepwise)
		b.carrier.set(hooks{pack: func(tx *phases.Tx, _ phases.Key) (*phases.Outcome, error) {
			tx.Queue(`INSERT INTO parcels (account_id, key) VALUES ('acct_1', NULL)`)
			return nil, nil
		}})
		_, _ = b.run(t, "k")
		b.expire(t)
		if counts := b.complete(t); counts.Parked != 1 {
			t.Errorf("the completer did %+v", counts)
		}
		if got := b.show(t, "k").ParkedReason; got != "impossible_violation" {
			t.Errorf("parked for %q", got)
		}
	})

	t.Run("trouble that passes by itself parks no key", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.abandon(t, 1)
		b.carrier.set(hooks{before: lost})
		for range 10 {
			b.expire(t)
			if counts := b.complete(t); counts.Released != 1 {
				t.Fatalf("the completer did %+v", counts)
			}
		}
		b.carrier.set(hooks{})
		b.mustRun(t, "k0")
	})
}

func TestFailuresBackOff(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *phases.Config) { c.Backoff = phases.Backoff{Initial: time.Second, Max: 10 * time.Second} })
	wait := func() time.Duration {
		return time.Duration(value[float64](t, b, `SELECT extract(epoch FROM run_after - now())::float8 FROM idempotency_keys`) * float64(time.Second))
	}
	for n, most := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 10 * time.Second, 10 * time.Second} {
		_ = b.sendOnce(t, "k", hooks{before: lost})
		if got := wait(); got > most || got < most/2-time.Second {
			t.Errorf("after failure %d the key is due in %s, want up to %s", n+1, got, most)
		}
	}
	_ = b.sendOnce(t, "k", hooks{before: func(context.Context, int) error {
		return &phases.CallError{Class: phases.Unknown, Err: errLost, Backoff: phases.Backoff{Initial: time.Minute, Max: time.Minute}}
	}})
	if got := wait(); got < 55*time.Second {
		t.Errorf("the other side asked for a minute, and the key is due in %s", got)
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	b := phases.Backoff{Initial: time.Second, Max: time.Minute}
	for n := 1; n < 200; n++ {
		most := min(time.Second<<min(n-1, 20), time.Minute)
		for range 100 {
			if got := b.Next(n); got < time.Second || got < most/2 || got > most {
				t.Fatalf("wait %d is %s, want %s to %s", n, got, most/2, most)
			}
		}
	}
}

// TestTroubleOfTheDatabaseNeverParks: the completer loses its connection in the
// middle of a phase, again and again (I17).
func TestTroubleOfTheDatabaseNeverParks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.abandon(t, 1)
	// It stands at booked, where the next phase reads.
	b.exec(t, `UPDATE idempotency_keys SET recovery_point = 'booked'`)
	b.exec(t, `UPDATE parcels SET booking = 'B1'`)
	for range 5 {
		b.expire(t)
		w := wire.NewPostgres()
		engine := b.newEngine(t, w)
		w.Plan(func(_ int, message []byte) wire.Fault {
			if bytes.Contains(message, []byte("SELECT booking FROM parcels")) {
				return wire.Fault{Kind: wire.CutBefore}
			}
			return wire.Fault{}
		})
		if counts, err := b.completer(engine).Once(t.Context()); err != nil || counts.Released != 1 {
			t.Fatalf("the completer did %+v, %v", counts, err)
		}
	}
	if got := b.show(t, "k0"); got.Failures != 0 || got.ParkedReason != "" {
		t.Errorf("%d failures, parked for %q", got.Failures, got.ParkedReason)
	}
}

// TestARefusalThatRepeatsParks: a failure of a call that would repeat with the
// same input counts, for the completer only, and the key is parked for its
// reason.
func TestARefusalThatRepeatsParks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.carrier.set(hooks{before: func(context.Context, int) error {
		return &phases.CallError{Class: phases.Transient, Counts: true, Reason: "carrier_400", Err: errors.New("the parcel is refused")}
	}})
	for range 5 {
		if _, err := b.run(t, "k"); errors.Is(err, phases.ErrParked) {
			t.Fatal("a client's retries have parked the key")
		}
	}
	for range 3 {
		b.expire(t)
		b.complete(t)
	}
	record := b.show(t, "k")
	if record.ParkedReason != "carrier_400" || !strings.Contains(record.LastError, "the parcel is refused") {
		t.Errorf("parked for %q with %q, want carrier_400 with its cause", record.ParkedReason, record.LastError)
	}
	if record.FirstSentAt != nil {
		t.Error("it has a first send, and nothing was done")
	}
}

// TestAParkedLineSaysWhy: whoever reads the log needs no second look to know
// what happened.
func TestAParkedLineSaysWhy(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	b := setup(t, func(c *phases.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	b.carrier.set(hooks{answer: "the carrier burned down"})
	_, _ = b.run(t, "k")
	if text := log.String(); !strings.Contains(text, "reason=odd_booking") || !strings.Contains(text, `cause="the carrier burned down"`) {
		t.Errorf("the log says %s", text)
	}
}

// TestNothingIsClaimedWithoutARealm: while it isn't known whose keys these are,
// finished ones are answered and nothing is claimed.
func TestNothingIsClaimedWithoutARealm(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.mustRun(t, "done")
	_ = b.sendOnce(t, "abandoned", hooks{before: lost})
	b.expire(t)
	nowhere := func(c *phases.Config) { c.Realm = func() string { return "" } }
	engine := b.newEngine(t, nil, nowhere)
	if result, err := engine.Run(t.Context(), b.flow, request("done")); err != nil || !result.Replayed {
		t.Errorf("a finished key gives %+v, %v", result, err)
	}
	for _, key := range []string{"new", "abandoned"} {
		if _, err := engine.Run(t.Context(), b.flow, request(key)); err == nil {
			t.Errorf("%s was claimed", key)
		}
	}
	counts, err := b.completer(engine).Once(t.Context())
	if err != nil || counts.Finished+counts.Released > 0 {
		t.Errorf("the completer did %+v, %v", counts, err)
	}
	if n := value[int](t, b, `SELECT count(*) FROM idempotency_keys WHERE key = 'new'`); n > 0 {
		t.Error("a row was made")
	}
}

// TestARealmThatChanges: the realm becomes known, or another one, while a
// request is on its way. No key is stored without one, and none of another one
// is claimed.
func TestARealmThatChanges(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_ = b.sendOnce(t, "abandoned", hooks{before: lost})
	b.expire(t)
	before := b.show(t, "abandoned")
	for key, realms := range map[string][2]string{"new": {"", "test"}, "abandoned": {"test", "other"}} {
		asked := 0
		engine := b.newEngine(t, nil, func(c *phases.Config) {
			c.Realm = func() string {
				asked++
				return realms[min(asked, 2)-1]
			}
		})
		_, err := engine.Run(t.Context(), b.flow, request(key))
		if got, want := value[int](t, b, `SELECT count(*) FROM idempotency_keys WHERE realm <> 'test'`), 0; got != want {
			t.Errorf("%s: %d keys of no realm, want %d, after %v", key, got, want, err)
		}
	}
	if got := b.show(t, "abandoned"); got.Attempts != before.Attempts {
		t.Error("a key of another realm was claimed")
	}
}
