package pgtest

import (
	"context"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/postgres"
)

// Statements collects what the pool of Traced sends, except what checks a new
// connection. It is a tracer of pgx.
type Statements struct {
	mu   sync.Mutex
	args map[string][]any
	sent []Statement
}

// A Statement is one that was sent.
type Statement struct {
	SQL  string
	Args []any
}

// Traced returns a pool on the database at url, and what it will send.
func Traced(tb testing.TB, url string) (*pgxpool.Pool, *Statements) {
	tb.Helper()
	seen := &Statements{args: map[string][]any{}}
	config := Open(tb, postgres.Options{URL: url}).Config()
	config.ConnConfig.Tracer = seen
	pool, err := pgxpool.NewWithConfig(tb.Context(), config)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(pool.Close)
	return pool, seen
}

// Sent returns the statements that were sent since the last call, in order.
func (s *Statements) Sent() []Statement {
	s.mu.Lock()
	defer s.mu.Unlock()
	sent := s.sent
	s.sent = nil
	return sent
}

// Texts returns each statement that was ever sent once, with the arguments of
// its last execution, and without what begins and ends transactions.
func (s *Statements) Texts() map[string][]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.args
}

// Add adds a statement that is sent past the tracer.
func (s *Statements) Add(sql string, args []any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.Contains(sql, "pg_settings") {
		return
	}
	args = slices.DeleteFunc(slices.Clone(args), func(arg any) bool { _, mode := arg.(pgx.QueryExecMode); return mode })
	s.sent = append(s.sent, Statement{sql, args})
	verb, _, _ := strings.Cut(strings.ToUpper(strings.TrimSpace(sql)), " ")
	if slices.Contains([]string{"SELECT", "INSERT", "UPDATE", "DELETE", "WITH"}, strings.TrimSpace(verb)) {
		s.args[sql] = args
	}
}

// TraceQueryStart is called before each query.
func (s *Statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	s.Add(data.SQL, data.Args)
	return ctx
}

// TraceBatchStart is called before each pipeline.
func (s *Statements) TraceBatchStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	for _, query := range data.Batch.QueuedQueries {
		s.Add(query.SQL, query.Arguments)
	}
	return ctx
}

// TraceQueryEnd does nothing.
func (*Statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TraceBatchQuery does nothing.
func (*Statements) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

// TraceBatchEnd does nothing.
func (*Statements) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

// A Node is one of a plan, as EXPLAIN (FORMAT JSON) describes it.
type Node struct {
	Type     string  `json:"Node Type"`
	Relation string  `json:"Relation Name"`
	Index    string  `json:"Index Name"`
	Cond     string  `json:"Index Cond"`
	Rows     float64 `json:"Actual Rows"` // of each loop, with ANALYZE
	Removed  float64 `json:"Rows Removed by Filter"`
	WAL      int     `json:"WAL Bytes"`
	Images   int     `json:"WAL FPI"`
	Plans    []Node  `json:"Plans"`
}

// Scans returns how the plan reads tables: the names of the indexes, and "all
// of " and the name of a table that it reads as a whole, sorted, and each once.
func (n Node) Scans() []string {
	var scans []string
	switch {
	case n.Index != "":
		scans = append(scans, n.Index)
	case n.Type == "Seq Scan":
		scans = append(scans, "all of "+n.Relation)
	}
	for _, below := range n.Plans {
		scans = append(scans, below.Scans()...)
	}
	slices.Sort(scans)
	return slices.Compact(scans)
}

// A Querier is a connection, or a transaction.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Explain returns the plan that a statement has for these arguments. options
// are those of EXPLAIN; with ANALYZE it is executed.
func Explain(tb testing.TB, conn Querier, options, sql string, args ...any) Node {
	tb.Helper()
	var plan []byte
	args = append([]any{pgx.QueryExecModeDescribeExec}, args...)
	err := conn.QueryRow(tb.Context(), `EXPLAIN (FORMAT JSON, `+options+`) `+sql, args...).Scan(&plan)
	return node(tb, sql, plan, err)
}

var parameter = regexp.MustCompile(`\$\d+`)

// ExplainGeneric returns the plan that a prepared statement keeps, whatever its
// arguments are.
func ExplainGeneric(tb testing.TB, conn *pgx.Conn, sql string) Node {
	tb.Helper()
	values := ""
	if n := len(slices.Compact(slices.Sorted(slices.Values(parameter.FindAllString(sql, -1))))); n > 0 {
		values = "(NULL" + strings.Repeat(", NULL", n-1) + ")"
	}
	Execute(tb, conn, `SET plan_cache_mode = force_generic_plan`)
	Execute(tb, conn, `PREPARE explained AS `+sql)
	var plan []byte
	err := conn.QueryRow(tb.Context(), `EXPLAIN (FORMAT JSON) EXECUTE explained `+values, pgx.QueryExecModeExec).Scan(&plan)
	Execute(tb, conn, `DEALLOCATE explained`)
	return node(tb, sql, plan, err)
}

func node(tb testing.TB, sql string, plan []byte, err error) Node {
	tb.Helper()
	var explained []struct{ Plan Node }
	if err == nil {
		err = json.Unmarshal(plan, &explained)
	}
	if err != nil {
		tb.Fatalf("explaining %s: %v", sql, err)
	}
	return explained[0].Plan
}
