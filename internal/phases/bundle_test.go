package phases_test

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/postgres"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/proof/tripwire"
	"github.com/rocketrides/rocketrides/proof/wire"
)

// bundle is what a test works with: a database with tripwires, a carrier, and
// an engine whose connections can be cut.
type bundle struct {
	url     string
	pool    *pgxpool.Pool // the test's own, never cut
	wire    *wire.Postgres
	carrier *carrier
	engine  *phases.Engine
	flow    phases.Flow
}

type option func(*phases.Config)

func stepwise(c *phases.Config) { c.Stepwise = true }

func setup(t *testing.T, options ...option) *bundle {
	t.Helper()
	b := &bundle{url: pgtest.URL(t), carrier: newCarrier(), wire: wire.NewPostgres()}
	b.pool = pgtest.Open(t, postgres.Options{URL: b.url})
	b.exec(t, `CREATE TABLE parcels (account_id text, key text, booking text, labels int DEFAULT 0, writes int,
		CONSTRAINT parcels_pkey PRIMARY KEY (account_id, key))`)
	pgtest.Distribute(t, b.url, "parcels")
	if !pgtest.OnCitus() { // a distributed table has no triggers
		if err := tripwire.Install(t.Context(), b.pool, parcels(b.carrier, 1)); err != nil {
			t.Fatal(err)
		}
	}
	b.flow = parcels(b.carrier, 1)
	b.engine = b.newEngine(t, b.wire, options...)
	return b
}

// newEngine returns another engine on the same database, as another process
// would have; its connections go through w, when that is given.
func (b *bundle) newEngine(t *testing.T, w *wire.Postgres, options ...option) *phases.Engine {
	t.Helper()
	o := postgres.Options{URL: b.url}
	if w != nil {
		o.DialFunc = w.Dial
	}
	config := phases.Config{
		Pool: pgtest.Open(t, o), Flows: []phases.Flow{parcels(b.carrier, 1)}, Realm: func() string { return "test" },
		Lease: 20 * time.Second, CallTimeout: 10 * time.Second,
		Backoff:     phases.Backoff{Initial: 10 * time.Millisecond, Max: 20 * time.Millisecond},
		MaxAttempts: 3, OneAccount: pgtest.OnCitus(), Unconfirmed: postgres.TookDoubtfulCommit,
		Logger: slog.New(slog.DiscardHandler),
	}
	for _, option := range options {
		option(&config)
	}
	engine, err := phases.NewEngine(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if left := engine.Shutdown(ctx); left > 0 {
			t.Errorf("%d attempts were still running when the test ended", left)
		}
	})
	return engine
}

func request(key string) phases.Request {
	return phases.Request{
		Account: "acct_1", Key: key, RequestID: "req_" + key, Method: "POST", Path: "/parcels",
		Params: `{"to":"moon"}`, CanonVersion: 1,
		Hash: func(version int) ([]byte, bool) {
			hash := sha256.Sum256([]byte("POST /parcels moon"))
			return hash[:], version == 1
		},
		Check: func() error { return nil },
	}
}

func (b *bundle) run(t *testing.T, key string) (phases.Result, error) {
	t.Helper()
	return b.engine.Run(t.Context(), b.flow, request(key))
}

// mustRun runs a request that must be answered with a label.
func (b *bundle) mustRun(t *testing.T, key string) phases.Result {
	t.Helper()
	result, err := b.run(t, key)
	if err != nil {
		t.Fatalf("running %s: %v", key, err)
	}
	if got := result.Answer.Status; got != 201 {
		t.Fatalf("running %s: status %d, want 201", key, got)
	}
	return result
}

func (b *bundle) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := b.pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func value[T any](t *testing.T, b *bundle, sql string, args ...any) T {
	t.Helper()
	var v T
	if err := b.pool.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// expire ends all leases and calls and makes every unfinished key due, so that
// a test needn't wait for that.
func (b *bundle) expire(t *testing.T) {
	t.Helper()
	b.exec(t, `UPDATE idempotency_keys SET leased_until = now() - interval '1 second' WHERE leased_until IS NOT NULL`)
	b.exec(t, `UPDATE idempotency_keys SET calling_until = now() - interval '1 second' WHERE calling_until IS NOT NULL`)
	b.exec(t, `UPDATE idempotency_keys SET run_after = now() - interval '1 second' WHERE finished_at IS NULL`)
}

// age moves the end of every finished key a year into the past.
func (b *bundle) age(t *testing.T) {
	t.Helper()
	b.unwatch(t)
	b.exec(t, `UPDATE idempotency_keys SET finished_at = now() - interval '1 year' WHERE finished_at IS NOT NULL`)
	b.watch(t)
}

// unwatch disables the tripwires, until watch.
func (b *bundle) unwatch(t *testing.T) {
	t.Helper()
	if !pgtest.OnCitus() {
		b.exec(t, `ALTER TABLE idempotency_keys DISABLE TRIGGER watch_key`)
	}
}

func (b *bundle) watch(t *testing.T) {
	t.Helper()
	if !pgtest.OnCitus() {
		b.exec(t, `ALTER TABLE idempotency_keys ENABLE TRIGGER watch_key`)
	}
}

// lock locks every row that there is, until unlock.
func (b *bundle) lock(t *testing.T) (unlock func()) {
	t.Helper()
	tx, err := b.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT FROM idempotency_keys WHERE account_id = 'acct_1' FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := tx.Rollback(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}
}

func (b *bundle) completer(engine *phases.Engine) *phases.Completer {
	return &phases.Completer{
		Engine: engine, Poll: 5 * time.Millisecond, Concurrency: 8, Retention: 72 * time.Hour, Tombstones: 30 * 24 * time.Hour,
	}
}

// complete does one round of a completer in a process of its own.
func (b *bundle) complete(t *testing.T) phases.Counts {
	t.Helper()
	counts, err := b.completer(b.newEngine(t, nil)).Once(t.Context())
	if err != nil {
		t.Fatalf("completing: %v", err)
	}
	return counts
}

func (b *bundle) keys() phases.Keys { return phases.Keys{Pool: b.pool} }

func (b *bundle) show(t *testing.T, key string) phases.Record {
	t.Helper()
	found, err := b.keys().Show(t.Context(), "acct_1", key)
	if err != nil || len(found) != 1 {
		t.Fatalf("showing %s: %d keys, %v", key, len(found), err)
	}
	return found[0]
}

// checkDone checks everything that must hold of a key that has its label.
func (b *bundle) checkDone(t *testing.T, key string) {
	t.Helper()
	if got := value[string](t, b, `SELECT recovery_point FROM idempotency_keys WHERE key = $1`, key); got != phases.Finished {
		t.Errorf("key %s stands at %s, want finished", key, got)
	}
	var labels, writes int
	if err := b.pool.QueryRow(t.Context(), `SELECT labels, writes FROM parcels WHERE key = $1`, key).Scan(&labels, &writes); err != nil {
		t.Fatal(err)
	}
	if labels != 1 || writes != 3 {
		t.Errorf("parcel %s has %d labels after %d writes, want 1 after 3", key, labels, writes)
	}
	if got := value[bool](t, b, `SELECT convert_from(k.response_body, 'UTF8') = 'label ' || p.booking
		FROM idempotency_keys k JOIN parcels p USING (account_id, key) WHERE key = $1`, key); !got {
		t.Errorf("the label of parcel %s is not that of its booking", key)
	}
	b.checkSends(t)
	if got := len(b.carrier.bookings); got > value[int](t, b, `SELECT count(*) FROM parcels`) {
		t.Errorf("there are %d bookings, more than parcels", got)
	}
}

// checkSends checks that all sends of a key have the same foreign key and the
// same bytes.
func (b *bundle) checkSends(t *testing.T) {
	t.Helper()
	forms := map[string]string{}
	for _, s := range b.carrier.sent() {
		if first, ok := forms[s.key]; ok && first != s.form {
			t.Errorf("key %s was sent with %q and with %q", s.key, first, s.form)
		}
		forms[s.key] = s.form
	}
	if len(forms) > value[int](t, b, `SELECT count(*) FROM idempotency_keys`) {
		t.Errorf("%d foreign keys were used, more than there are keys", len(forms))
	}
}

// sendOnce makes one attempt, which must fail, and returns the error of Run.
func (b *bundle) sendOnce(t *testing.T, key string, h hooks) error {
	t.Helper()
	b.carrier.set(h)
	_, err := b.run(t, key)
	b.carrier.set(hooks{})
	if err == nil {
		t.Fatal("the attempt succeeded")
	}
	return err
}

func lost(context.Context, int) error { return errLost }

// snapshot returns everything that is stored about a key, or "" if there is
// none.
func (b *bundle) snapshot(t *testing.T, key string) string {
	t.Helper()
	return value[string](t, b, `
		SELECT coalesce(string_agg(k::text || p::text, ';'), '')
		FROM idempotency_keys k JOIN parcels p USING (account_id, key) WHERE key = $1`, key)
}

// transactions returns how many transactions have written the row of key k.
func (b *bundle) transactions(t *testing.T) int {
	t.Helper()
	pgtest.NotOnCitus(t, "it counts transactions with a trigger")
	return value[int](t, b, `SELECT count(DISTINCT xid) FROM phase_log WHERE key = 'k'`)
}
