package rides

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

// TestEachStatementOfARideIsAboutItsAccount: it is a parameter of every
// statement, and on Citus each is executed by the one node that has the
// account's rows.
func TestEachStatementOfARideIsAboutItsAccount(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	pool, seen := pgtest.Traced(t, h.url)
	for mode, settings := range map[string][]setting{"fused": nil, "stepwise": {stepwise}} {
		p := h.startProcess(t, nil, append(settings, func(c *phases.Config) { c.Pool, c.Sending = pool, seen.Add })...)
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
	for sql, args := range seen.Texts() {
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
