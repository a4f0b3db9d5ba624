package audit

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

// limits is a tracer of pgx that asks, before each statement that reads rides,
// what its session allows it.
type limits struct{ seen []string }

func (l *limits) TraceQueryStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if !strings.Contains(data.SQL, "FROM rides") {
		return ctx
	}
	var seen string
	err := conn.QueryRow(ctx, `SELECT concat_ws(' ', current_setting('statement_timeout'), current_setting('enable_seqscan'),
		current_setting('enable_bitmapscan'), current_setting('enable_sort'))`).Scan(&seen)
	if err != nil {
		seen = err.Error()
	}
	l.seen = append(l.seen, seen)
	return ctx
}

func (*limits) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// Each of these reads tables that no index shortens. The role's settings end
// that after 10 seconds.
func TestWhatReadsWholeTablesMay(t *testing.T) {
	t.Parallel()
	role := pgtest.New(t)
	for name, read := range map[string]func(ctx context.Context, pool *pgxpool.Pool) error{
		"accounts of a key": func(ctx context.Context, pool *pgxpool.Pool) error {
			_, err := HistoryAccounts(ctx, pool, "k")
			return err
		},
		"history": func(ctx context.Context, pool *pgxpool.Pool) error {
			if _, err := History(ctx, pool, "acct_1", "k"); !errors.Is(err, ErrNoHistory) {
				return err
			}
			return nil
		},
		"rides to compare with Stripe": func(ctx context.Context, pool *pgxpool.Pool) error {
			now := time.Now()
			return Auditor{Pool: pool}.compareRides(ctx, &comparison{}, now.Add(-time.Hour), now)
		},
		"the database's own checks": func(ctx context.Context, pool *pgxpool.Pool) error {
			_, err := Auditor{Pool: pool}.Run(ctx)
			return err
		},
	} {
		l := &limits{}
		config := role.Config()
		config.MaxConns, config.ConnConfig.Tracer = 1, l
		pool, err := pgxpool.NewWithConfig(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		if err := read(t.Context(), pool); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		pool.Close()
		if len(l.seen) == 0 {
			t.Errorf("%s: it doesn't read rides", name)
		}
		for _, seen := range l.seen {
			if seen != "10min on on on" {
				t.Errorf("%s is read with %q, want 10 minutes and every plan", name, seen)
			}
		}
	}
}
