package phases_test

import (
	"context"
	"errors"
	"testing"

	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/postgres"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

// skew sets the database's clock off from that of this process, for all
// connections that are made from now on: a function now() of the test's own
// hides the system's.
func (b *bundle) skew(t *testing.T, by string) {
	t.Helper()
	pgtest.NotOnCitus(t, "it replaces now() in the sessions of one server")
	b.exec(t, `CREATE SCHEMA skewed`)
	b.exec(t, `CREATE FUNCTION skewed.now() RETURNS timestamptz LANGUAGE sql STABLE AS
		$$ SELECT pg_catalog.now() + interval '`+by+`' $$`)
	b.exec(t, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = skewed, public, pg_catalog', current_database()); END $$`)
	b.pool = pgtest.Open(t, postgres.Options{URL: b.url})
	b.engine = b.newEngine(t, nil)
}

// TestOnlyTheDatabasesClockCounts: the clock of a process may be wrong by a
// day, and neither leases nor the window change (I24).
func TestOnlyTheDatabasesClockCounts(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"1 day", "-1 day"} {
		t.Run("the database is set off by "+by, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.skew(t, by)
			other := b.newEngine(t, nil)
			b.carrier.set(hooks{before: func(context.Context, int) error {
				if _, err := other.Run(t.Context(), b.flow, request("k")); !errors.Is(err, phases.ErrInUse) {
					t.Errorf("a leased key: got %v, want ErrInUse", err)
				}
				return errLost
			}})
			if _, err := b.run(t, "k"); err == nil {
				t.Fatal("the carrier answered")
			}

			b.carrier.set(hooks{})
			b.exec(t, `UPDATE idempotency_keys SET lease_token = '00000000-0000-4000-8000-000000000001', leased_until = now() + interval '1 hour', run_after = now()`)
			if counts := b.complete(t); counts != (phases.Counts{}) {
				t.Errorf("the completer did %+v with a leased key", counts)
			}
			b.expire(t)
			if counts := b.complete(t); counts != (phases.Counts{Finished: 1}) {
				t.Errorf("the completer did %+v with an abandoned key", counts)
			}
			b.checkDone(t, "k")
			if len(b.carrier.sent()) != 2 || b.carrier.found() != 0 {
				t.Errorf("%d sends, %d look-ups; want 2 and none", len(b.carrier.sent()), b.carrier.found())
			}

			_ = b.sendOnce(t, "late", hooks{before: lost})
			b.exec(t, `UPDATE idempotency_keys SET first_sent_at = now() - interval '20 hours' WHERE key = 'late'`)
			if _, err := b.run(t, "late"); !errors.Is(err, phases.ErrParked) {
				t.Errorf("after the window: got %v, want ErrParked", err)
			}
		})
	}
}
