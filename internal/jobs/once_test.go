package jobs

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A round ends also if the database takes a statement and never answers:
// otherwise cron, or whoever has it run, would wait for ever.
func TestEveryStatementOfARoundHasATimeOut(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.stage(t, "job_", 1)
	statements := &deadlines{}
	c := b.client(t, nil, b.deliver, func(config *Config) {
		traced := config.Pool.Config()
		traced.ConnConfig.Tracer = statements
		pool, err := pgxpool.NewWithConfig(t.Context(), traced)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(pool.Close)
		config.Pool = pool
	})
	if counts, err := c.Once(t.Context()); err != nil || counts.Delivered != 1 {
		t.Fatalf("it did %+v (%v)", counts, err)
	}
	if statements.timed == 0 || len(statements.untimed) > 0 {
		t.Errorf("beside %d statements with a time-out, these have none: %q", statements.timed, statements.untimed)
	}
}

// deadlines are what a tracer has seen of the deadlines of statements.
type deadlines struct {
	mu      sync.Mutex
	timed   int
	untimed []string
}

func (d *deadlines) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	// What a new connection is asked, and what River asks when it starts.
	elsewhere := strings.Contains(data.SQL, "FROM pg_settings") || data.SQL == "SELECT 1"
	if _, ok := ctx.Deadline(); ok {
		d.timed++
	} else if !elsewhere && !slices.Contains(d.untimed, data.SQL) {
		d.untimed = append(d.untimed, data.SQL)
	}
	return ctx
}

func (*deadlines) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
