package jobs

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

// TestNoStatementReadsWhatIsDone: River keeps jobs that are done for a day,
// which are many more than all others. Whatever the statistics say, a statement
// about the others reads by the one index that begins with the state.
func TestNoStatementReadsWhatIsDone(t *testing.T) {
	t.Parallel()
	pgtest.NotOnCitus(t, "its plans are those of its nodes")
	b := setup(t)
	sent := statementsAboutJobs(t, b)
	conn := pgtest.Connect(t, b.url)
	pgtest.Execute(t, conn, `ALTER TABLE river.river_job SET (autovacuum_enabled = off)`)
	for _, state := range []struct{ name, sql string }{
		{"never analyzed", `SELECT 1`},
		{"analyzed while empty", `ANALYZE river.river_job`},
		{"full", fillRiver},
		{"full and analyzed", `VACUUM ANALYZE river.river_job`},
	} {
		pgtest.Execute(t, conn, state.sql)
		for sql, args := range sent {
			for plan, node := range map[string]pgtest.Node{
				"generic plan": pgtest.ExplainGeneric(t, conn, sql), "plan": pgtest.Explain(t, conn, "VERBOSE", sql, args...),
			} {
				got := slices.DeleteFunc(node.Scans(), func(scan string) bool { return !strings.Contains(scan, "river_job") })
				if want := []string{"river_job_prioritized_fetching_index"}; !slices.Equal(got, want) {
					t.Errorf("in a table %s the %s of this reads by %s, want %s:\n%s", state.name, plan, got, want, sql)
				}
			}
		}
	}
	for sql, args := range sent {
		if got := mostRows(pgtest.Explain(t, conn, "ANALYZE", sql, args...)); got > notDone {
			t.Errorf("of %d jobs that are not done this reads %v:\n%s", notDone, got, sql)
		}
		if !strings.Contains(sql, "AS staged") {
			continue
		}
		b.stage(t, "job_", notDone)
		if got := mostRows(pgtest.Explain(t, conn, "ANALYZE", sql, 10)); got != running {
			t.Errorf("to count 10 jobs, and find the oldest of %d attempts, this reads %v:\n%s", running, got, sql)
		}
	}
}

// statementsAboutJobs returns what operators and a client send to find or count
// jobs of River's, with arguments.
func statementsAboutJobs(t *testing.T, b *bundle) map[string][]any {
	t.Helper()
	pool, seen := pgtest.Traced(t, b.url)
	c := b.client(t, nil, b.deliver, func(c *Config) { c.Pool = pool })
	all := Jobs{Pool: pool}
	_, list := all.List(t.Context(), false, 10)
	_, listDead := all.List(t.Context(), true, 10)
	_, dead := all.Dead(t.Context())
	pending := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		_, err := pendingCallback(t.Context(), tx, "acct_1", "job_1")
		return err
	})
	for _, err := range []error{list, listDead, dead, pending, c.awaitWorked(t.Context(), time.Now()), c.count(t.Context())} {
		if err != nil {
			t.Fatal(err)
		}
	}
	sent := map[string][]any{}
	for sql, args := range seen.Texts() {
		if strings.Contains(sql, "river.river_job") {
			sent[sql] = args
		}
	}
	if len(sent) != 5 {
		t.Fatalf("%d statements were sent, want those that list jobs and dead jobs, find a callback and what is due, and count", len(sent))
	}
	return sent
}

// How many jobs of fillRiver aren't done, and how many of those are running.
const notDone, running = 700, 100

const fillRiver = `
	INSERT INTO river.river_job (kind, args, max_attempts, queue, state, attempted_at, attempted_by, finalized_at)
	SELECT 'receipt/1', '{}', 5, 'receipt', s.state, now(), '{nobody}', CASE WHEN s.state IN ('cancelled', 'completed', 'discarded') THEN now() END
	FROM (SELECT 'completed'::river.river_job_state, n FROM generate_series(1, 20000) AS n
	      UNION ALL
	      SELECT state, n FROM unnest(enum_range(NULL::river.river_job_state)) AS state, generate_series(1, 100) AS n
	      WHERE state <> 'completed') AS s (state, n)`

// mostRows returns the most rows that a node of a plan has read.
func mostRows(n pgtest.Node) float64 {
	most := n.Rows + n.Removed
	for _, below := range n.Plans {
		most = max(most, mostRows(below))
	}
	return most
}
