package phases_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/postgres"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

func TestEveryExecModeOfPgxWorks(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		for _, step := range []bool{false, true} {
			t.Run(fmt.Sprint(mode, " stepwise=", step), func(t *testing.T) {
				t.Parallel()
				b := setup(t)
				pool := pgtest.Open(t, postgres.Options{URL: pgtest.InMode(t, b.url, mode)})
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

func TestSerializationFailuresAreRunAgain(t *testing.T) {
	t.Parallel()
	pgtest.NotOnCitus(t, "it makes failures with a trigger")
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
				t.Errorf("failures without end gave %v, want ErrUnavailable", err)
			}
		})
	}
}

// TestNoTransactionIsOpenDuringACall asks the server, at the moment of the call
// (I23).
func TestNoTransactionIsOpenDuringACall(t *testing.T) {
	t.Parallel()
	for mode, options := range map[string][]option{"fused": nil, "stepwise": {stepwise}} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			b := setup(t, options...)
			check := func(context.Context, int) error {
				if n := value[int](t, b, `SELECT count(*) FROM `+pgtest.Activity()+`
					WHERE datname = current_database() AND state LIKE 'idle in transaction%'`); n != 0 {
					t.Errorf("%d sessions are idle in transaction while the carrier is asked", n)
				}
				return nil
			}
			b.carrier.set(hooks{before: check})
			b.mustRun(t, "k")
		})
	}
}

// onePool gives the engine a pool with a single connection, which the test can
// take away.
func (b *bundle) onePool(t *testing.T) *pgxpool.Pool {
	t.Helper()
	pool := pgtest.Open(t, postgres.Options{URL: b.url, MaxConns: 1})
	b.engine = b.newEngine(t, nil, func(c *phases.Config) { c.Pool = pool })
	return pool
}

// TestWithoutAConnection: a request that has not claimed its key is refused
// early; a worker that has claimed it waits for a connection.
func TestWithoutAConnection(t *testing.T) {
	t.Parallel()

	t.Run("a new request is refused and claims nothing", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		pool := b.onePool(t)
		refused := request("k")
		refused.Check = func() error { // between the read and the claim
			conn, err := pool.Acquire(t.Context())
			if err == nil {
				t.Cleanup(conn.Release)
			}
			return err
		}
		if _, err := b.engine.Run(t.Context(), b.flow, refused); !errors.Is(err, phases.ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
		if n := pool.Stat().CanceledAcquireCount(); n != 1 {
			t.Errorf("it waited %d times for a connection, want once", n)
		}
		if n := value[int](t, b, `SELECT count(*) FROM idempotency_keys`); n != 0 {
			t.Error("it was claimed")
		}
	})

	t.Run("a result waits for a connection", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		pool := b.onePool(t)
		b.carrier.set(hooks{after: func(ctx context.Context, _ int) error {
			conn, err := pool.Acquire(ctx)
			if err != nil {
				return err
			}
			go func() { // until the engine has waited in vain once
				defer conn.Release()
				for t.Context().Err() == nil && pool.Stat().CanceledAcquireCount() == 0 {
					time.Sleep(time.Millisecond)
				}
			}()
			return nil
		}})
		b.mustRun(t, "k")
		b.checkDone(t, "k")
	})
}

// TestAFailedTransactionCostsNoConnection: it is rolled back, so that the pool
// keeps the connection.
func TestAFailedTransactionCostsNoConnection(t *testing.T) {
	t.Parallel()
	b := setup(t)
	pool := b.onePool(t)
	b.mustRun(t, "warm")
	before := pool.Stat().NewConnsCount()
	b.exec(t, `INSERT INTO parcels (account_id, key, writes) SELECT 'acct_1', 'k' || n, 1 FROM generate_series(1, 20) n`)
	for n := range 20 {
		if _, err := b.run(t, fmt.Sprint("k", n+1)); !errors.Is(err, phases.ErrKeyExpired) {
			t.Errorf("got %v, want ErrKeyExpired", err)
		}
	}
	if got := pool.Stat().NewConnsCount() - before; got > 0 {
		t.Errorf("%d connections were made for 20 refused requests", got)
	}
}

// TestAPreparedStatementThatNoLongerFits: a column has another type now, and
// the server refuses what was prepared before, as long as the connection lives.
func TestAPreparedStatementThatNoLongerFits(t *testing.T) {
	t.Parallel()
	pgtest.NotOnCitus(t, "it changes the type of a column")
	b := setup(t)
	b.onePool(t)
	b.mustRun(t, "before")
	b.exec(t, `ALTER TABLE idempotency_keys ALTER COLUMN params TYPE varchar`)
	_, _ = b.run(t, "refused")
	b.mustRun(t, "after")
	b.checkDone(t, "after")
}
