package phases_test

import (
	"errors"
	"testing"

	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

// TestASessionThatSleptInItsTransaction: a worker stops between two statements
// of a transaction for longer than Postgres allows, and Postgres ends the
// session. The request may be made again, and nothing counts towards parking
// (I17).
func TestASessionThatSleptInItsTransaction(t *testing.T) {
	t.Parallel()
	pgtest.NotThroughPooler(t, "it has a session with settings of its own")
	b := setup(t)
	b.carrier.set(hooks{pack: func(*phases.Tx, phases.Key) (*phases.Outcome, error) { return nil, errLost }})
	sleepy := b.newEngine(t, nil, stepwise)
	if _, err := sleepy.Run(t.Context(), b.flow, request("k")); !errors.Is(err, errLost) {
		t.Fatalf("the first run got %v", err)
	}
	b.carrier.set(hooks{pack: func(tx *phases.Tx, _ phases.Key) (*phases.Outcome, error) {
		var one, pid int
		// Only this transaction: the others must not be hit on a busy machine.
		if err := tx.QueryRow(`SELECT pg_backend_pid() FROM set_config('idle_in_transaction_session_timeout', '50ms', true)`).Scan(&pid); err != nil {
			return nil, err
		}
		pgtest.Eventually(t, "the session has ended", func() bool {
			return value[int](t, b, `SELECT count(*) FROM pg_stat_activity WHERE pid = $1`, pid) == 0
		})
		return nil, tx.QueryRow(`SELECT 1`).Scan(&one)
	}})
	b.expire(t)
	if _, err := sleepy.Run(t.Context(), b.flow, request("k")); !errors.Is(err, phases.ErrUnavailable) {
		t.Errorf("the client got %v, want ErrUnavailable", err)
	}
	b.expire(t)
	if counts, err := b.completer(sleepy).Once(t.Context()); err != nil || counts.Released != 1 {
		t.Errorf("the completer did %+v, %v", counts, err)
	}
	if got := b.show(t, "k"); got.Failures != 0 || got.ParkedReason != "" {
		t.Errorf("%d failures count towards parking, parked for %q", got.Failures, got.ParkedReason)
	}
	b.carrier.set(hooks{})
	b.expire(t)
	b.mustRun(t, "k")
	b.checkDone(t, "k")
}
