package rides

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/postgres"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

// statements collects the statements of a pool, with the arguments of one
// execution of each, except what checks a new connection. It is a tracer of
// pgx.
type statements struct {
	mu   sync.Mutex
	args map[string][]any
}

func (s *statements) add(sql string, args []any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	verb, _, _ := strings.Cut(strings.TrimSpace(sql), " ")
	if !slices.Contains([]string{"BEGIN", "COMMIT", "ROLLBACK"}, strings.ToUpper(verb)) && !strings.Contains(sql, "pg_settings") {
		s.args[sql] = args
	}
}

// TraceQueryStart is called before each query.
func (s *statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	s.add(data.SQL, data.Args)
	return ctx
}

// TraceBatchStart is called before each pipeline.
func (s *statements) TraceBatchStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	for _, query := range data.Batch.QueuedQueries {
		s.add(query.SQL, query.Arguments)
	}
	return ctx
}

func (*statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData)     {}
func (*statements) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (*statements) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

// TestEachStatementOfARideIsAboutItsAccount: it is a parameter of every
// statement, and on Citus each is executed by the one node that has the
// account's rows.
func TestEachStatementOfARideIsAboutItsAccount(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	seen := &statements{args: map[string][]any{}}
	config := pgtest.Open(t, postgres.Options{URL: h.url}).Config()
	config.ConnConfig.Tracer = seen
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	for mode, settings := range map[string][]setting{"fused": nil, "stepwise": {stepwise}} {
		p := h.startProcess(t, nil, append(settings, func(c *phases.Config) { c.Pool = pool })...)
		p.hailAs(t, h.visa, mode).must(t, 201, "")
		for _, fault := range []fakestripe.Kind{
			fakestripe.Declined402, fakestripe.DropBefore, fakestripe.DropAfter,
			fakestripe.Saved500WithEffect, fakestripe.Saved500WithoutEffect, fakestripe.Saved400,
		} {
			h.fake.Script(fakestripe.Fault{Kind: fault})
			key := fmt.Sprint(mode, fault)
			p.hailAs(t, h.visa, key)
			h.exec(t, `UPDATE idempotency_keys SET run_after = now() WHERE finished_at IS NULL`)
			p.hailAs(t, h.visa, key)
			ride := rideID(h.visa.AccountID, key)
			p.send(t, call{method: "GET", path: "/v1/rides/" + ride, as: h.visa})
			h.fake.Script(fakestripe.Fault{Kind: fakestripe.DropAfter, Match: fakestripe.Match{Path: "/v1/refunds"}})
			p.cancelAs(t, h.visa, ride, "cancel-"+key)
			p.cancelAs(t, h.visa, ride, "cancel-"+key)
		}
		p.send(t, call{method: "GET", path: "/v1/rides?limit=2", as: h.visa}).must(t, 200, "")
	}
	conn := pgtest.Connect(t, pgtest.InMode(t, h.url, "exec"))
	for sql, args := range seen.args {
		args = slices.DeleteFunc(slices.Clone(args), func(arg any) bool { _, mode := arg.(pgx.QueryExecMode); return mode })
		if !slices.Contains(args, any(h.visa.AccountID)) {
			t.Errorf("the account is no parameter of %s", sql)
		}
		rows, err := conn.Query(t.Context(), "EXPLAIN "+sql, args...)
		if err != nil {
			t.Fatal(err)
		}
		plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		text := strings.Join(plan, "\n")
		if tasks := strings.Count(text, "Task Count: "); pgtest.OnCitus() && (tasks != 1 || !strings.Contains(text, "Task Count: 1\n")) {
			t.Errorf("%s\nis not executed by one node:\n%s", sql, text)
		}
	}
}
