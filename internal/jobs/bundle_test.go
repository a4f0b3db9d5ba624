package jobs

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/postgres"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/proof/wire"
)

// bundle is what a test works with: a database, and what was delivered.
type bundle struct {
	url  string
	pool *pgxpool.Pool // the test's own, never cut

	mu        sync.Mutex
	delivered map[string]int // by job
}

func setup(t *testing.T) *bundle {
	t.Helper()
	b := &bundle{url: pgtest.URL(t), delivered: make(map[string]int)}
	b.pool = pgtest.Open(t, postgres.Options{URL: b.url})
	return b
}

type option func(*Config)

// client returns a client, as another process would have it. It delivers
// receipts by work. Its connections go through w, when that is given.
func (b *bundle) client(t *testing.T, w *wire.Postgres, work worker[Receipt], options ...option) *Client {
	t.Helper()
	c, err := newClient(b.config(t, w, options...), func(c *Client) { addWorker(c, work) })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (b *bundle) config(t *testing.T, w *wire.Postgres, options ...option) Config {
	t.Helper()
	o := postgres.Options{URL: b.url}
	if w != nil {
		o.DialFunc = w.Dial
	}
	config := Config{
		Pool: pgtest.Open(t, o), Poll: 20 * time.Millisecond, Timeout: 2 * time.Second, Concurrency: 4, Drain: time.Second,
		Logger: slog.New(slog.DiscardHandler),
	}
	for _, option := range options {
		option(&config)
	}
	return config
}

func logTo(w io.Writer) option {
	return func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(w, nil)) }
}

// start runs a client until stop, or the end of the test.
func start(t *testing.T, c *Client) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); c.Run(ctx) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

// deliver is a worker that succeeds.
func (b *bundle) deliver(_ context.Context, job delivery[Receipt]) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.delivered[job.ID]++
	return nil
}

// deliveries returns how many jobs were delivered, and how many deliveries
// there were.
func (b *bundle) deliveries() (jobs, times int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range b.delivered {
		times += n
	}
	return len(b.delivered), times
}

// stage stages n receipts whose ids begin with prefix.
func (b *bundle) stage(t *testing.T, prefix string, n int) {
	t.Helper()
	b.exec(t, `
		INSERT INTO staged_jobs (account_id, id, key, kind, args)
		SELECT 'acct_' || i % 3, $1 || i, $1 || i, 'receipt', '{"ride_id": "ride_1", "amount": 2350, "currency": "usd"}'
		FROM generate_series(1, $2) i`, prefix, n)
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

// checkRelayed checks that n jobs with the prefix were moved, each once, and
// that none is staged any more.
func (b *bundle) checkRelayed(t *testing.T, prefix string, n int) {
	t.Helper()
	got := value[string](t, b, `
		SELECT format('%s jobs, %s of them different, and %s staged', count(*), count(DISTINCT args ->> 'id'),
		       (SELECT count(*) FROM staged_jobs))
		FROM river.river_job WHERE args ->> 'id' LIKE $1 || '%'`, prefix)
	if want := fmt.Sprintf("%d jobs, %[1]d of them different, and 0 staged", n); got != want {
		t.Errorf("there are %s, want %s", got, want)
	}
}
