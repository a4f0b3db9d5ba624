package rides

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

// TestAnyBacklogOfEventsIsReadInPieces: whatever the statistics say, a
// statement of the inbox reads by one index, and it reads a bounded number of
// events, however many wait, and however many of them are about one object.
func TestAnyBacklogOfEventsIsReadInPieces(t *testing.T) {
	t.Parallel()
	pgtest.NotOnCitus(t, "its plans are those of its nodes")
	sent := statementsOfAnInbox(t)
	conn := pgtest.Connect(t, pgtest.URL(t))
	pgtest.Execute(t, conn, `ALTER TABLE stripe_events SET (autovacuum_enabled = off)`)
	for _, state := range []struct{ name, sql string }{
		{"never analyzed", `SELECT 1`},
		{"analyzed while empty", `VACUUM ANALYZE`},
		{"of one event", fillInbox(1) + `; ANALYZE`},
		{"never analyzed since it had one event", fillInbox(5_000)},
		{"full and analyzed", `VACUUM ANALYZE`},
	} {
		pgtest.Execute(t, conn, state.sql)
		for sql, args := range sent {
			want := readingOf(t, sql).index
			for plan, node := range map[string]pgtest.Node{
				"generic plan": pgtest.ExplainGeneric(t, conn, sql), "plan": pgtest.Explain(t, conn, "VERBOSE", sql, args...),
			} {
				got := slices.DeleteFunc(node.Scans(), func(scan string) bool { return !strings.Contains(scan, "stripe_events") })
				if !slices.Equal(got, []string{want}) {
					t.Errorf("in an inbox %s the %s of this reads by %s, want %s:\n%s", state.name, plan, got, want, sql)
				}
			}
		}
	}
	for sql := range sent {
		r := readingOf(t, sql)
		pgtest.Execute(t, conn, `BEGIN`)
		if got := mostRows(pgtest.Explain(t, conn, "ANALYZE", sql, r.args...)); got != r.rows {
			t.Errorf("of 15000 events this reads %v, want %v:\n%s", got, r.rows, sql)
		}
		pgtest.Execute(t, conn, `ROLLBACK`)
	}
}

// statementsOfAnInbox returns what a worker sends to list, take, finish,
// release, delete and count events, and to show them, with arguments.
func statementsOfAnInbox(t *testing.T) map[string][]any {
	t.Helper()
	h, seen := newHarness(t), 0
	pool, traced := pgtest.Traced(t, h.url)
	w := h.eventWorker()
	w.Pool = pool
	h.hailAs(t, h.visa, "k").must(t, 201, "")
	h.deliverAll(t, &seen, "snapshot")
	h.fake.Script(fakestripe.Fault{Kind: fakestripe.Unavailable503, Match: fakestripe.Match{Method: "GET"}})
	h.workWith(t, w)
	h.workWith(t, w)
	h.exec(t, `UPDATE stripe_events SET received_at = now() - interval '31 days'`)
	h.workWith(t, w)
	_, newest := w.Events(t.Context(), false, 10)
	_, waiting := w.Events(t.Context(), true, 10)
	if err := errors.Join(newest, waiting, w.start().measure(t.Context())); err != nil {
		t.Fatal(err)
	}
	sent := maps.Clone(traced.Texts())
	maps.DeleteFunc(sent, func(sql string, _ []any) bool { return !strings.Contains(sql, "stripe_events") })
	if len(sent) != 11 {
		t.Fatalf("the worker has sent %d statements, want 3 that list, those that take, finish, release and delete, 2 that show and 2 that count", len(sent))
	}
	return sent
}

// A reading is how a statement of the inbox reads the events of fillInbox, with
// arguments with which it finds the most of them.
type reading struct {
	said, index string
	rows        float64
	args        []any
}

func readingOf(t *testing.T, sql string) reading {
	t.Helper()
	const key = "stripe_events_pkey"
	some := []string{"evt_ch_crowd_1", "evt_old_2"}
	for _, r := range []reading{
		{"AS oldest", "stripe_events_due_idx", oldestEvents, []any{false, nil, oldestEvents}},
		{"AS waiting", "stripe_events_due_idx", 100, []any{false, 100, outForAPerson}},
		{"type <> 'sweep'", "stripe_events_received_idx", 1, []any{false}},
		{"AND worked_at IS NULL\n", "stripe_events_due_idx", 50, []any{50}},
		{"ORDER BY received_at DESC", "stripe_events_received_idx", 50, []any{50}},
		{"ORDER BY object_id", "stripe_events_object_idx", eventBatch, []any{"charge", "ch_crowd", eventBatch}},
		{"attempts + 1", key, 2, []any{some, 60}},
		{"outcome = $2", key, 2, []any{some, "nothing_new", "", ""}},
		{"last_error = $3", key, 2, []any{some, 60, ""}},
		{"ORDER BY received_at", "stripe_events_received_idx", eventBatch, []any{inboxRetention.Seconds(), eventBatch}},
		{"DELETE", key, 2, []any{some}},
	} {
		if strings.Contains(sql, r.said) {
			return r
		}
	}
	t.Fatalf("nobody knows how this reads:\n%s", sql)
	return reading{}
}

// fillInbox returns a statement that puts n events about one object into the
// inbox, n about others, and n that were worked long ago.
func fillInbox(n int) string {
	return strings.ReplaceAll(`
		INSERT INTO stripe_events (id, type, object, object_id, livemode, run_after, received_at, worked_at, outcome)
		SELECT format('evt_%s_%s', c.object, n), 'charge.refunded', 'charge', CASE c.object WHEN 'ch_crowd' THEN c.object ELSE 'ch_' || n END, false,
		       now() - n * interval '1 second', now() - n * interval '1 second' - c.age, c.worked_at, c.outcome
		FROM generate_series(1, @count) AS n, (VALUES
		     ('ch_crowd', interval '0', NULL::timestamptz, NULL), ('ch_other', '0', NULL, NULL), ('old', '31 days', now(), 'nothing_new')
		     ) AS c (object, age, worked_at, outcome)
		ON CONFLICT DO NOTHING`, "@count", strconv.Itoa(n))
}

// mostRows returns the most rows that a node of a plan has read.
func mostRows(n pgtest.Node) float64 {
	most := n.Rows + n.Removed
	for _, below := range n.Plans {
		most = max(most, mostRows(below))
	}
	return most
}
