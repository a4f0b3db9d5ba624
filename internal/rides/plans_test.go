package rides

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

// TestEachStatementHasOneIndex: whatever the statistics say, a statement reads
// each table by one index, because no other one fits. A plan is kept for as
// long as a connection lives; one that was made while there was little to read
// must not read all of an account, of the backlog or of a table later.
func TestEachStatementHasOneIndex(t *testing.T) {
	t.Parallel()
	pgtest.NotOnCitus(t, "its plans are those of its nodes")
	sent := statementsOfAService(t)
	url := pgtest.URL(t)
	conn := pgtest.Connect(t, url)
	for _, table := range []string{"idempotency_keys", "rides", "audit_records", "staged_jobs", "accounts"} {
		pgtest.Execute(t, conn, `ALTER TABLE `+table+` SET (autovacuum_enabled = off)`)
	}
	wanted := map[string][]string{}
	for sql := range sent {
		wanted[sql] = pgtest.ExplainGeneric(t, conn, sql).Scans()
		checkScans(t, sql, wanted[sql])
		for _, index := range wanted[sql] {
			checkOnlyOne(t, conn, sql, index)
		}
	}
	for _, state := range []struct{ name, sql string }{
		{"analyzed while empty", `VACUUM ANALYZE`},
		{"never analyzed since it was empty", fill("'acct_1'", 5_000)},
		{"full and analyzed", `VACUUM ANALYZE`},
		{"of one row", `TRUNCATE rides, idempotency_keys; ` + fill("'acct_1'", 1) + `; ANALYZE`},
		{"of accounts that had one ride", `TRUNCATE rides, idempotency_keys; ` + fill("'acct_' || n", 500) + `; ANALYZE; ` + fill("'acct_0'", 5_000)},
	} {
		pgtest.Execute(t, conn, state.sql)
		for sql, args := range sent {
			for plan, node := range map[string]pgtest.Node{
				"generic plan": pgtest.ExplainGeneric(t, conn, sql), "plan": pgtest.Explain(t, conn, "VERBOSE", sql, args...),
			} {
				if got := node.Scans(); !slices.Equal(got, wanted[sql]) {
					t.Errorf("in a database %s the %s of this reads %s, and %s else:\n%s", state.name, plan, got, wanted[sql], sql)
				}
			}
		}
	}
}

// statementsOfAService returns what rides, their readers, the completer and the
// reaper send, with arguments.
func statementsOfAService(t *testing.T) map[string][]any {
	t.Helper()
	h := newHarness(t)
	pool, seen := pgtest.Traced(t, h.url)
	p := h.startProcess(t, nil, func(c *phases.Config) { c.Pool, c.Sending = pool, seen.Add })
	for range 2 { // the second one is a replay
		p.hailAs(t, h.visa, "k").must(t, 201, "")
	}
	p.hailAs(t, h.declined, "declined").must(t, 402, "card_declined")
	ride := rideID(h.visa.AccountID, "k")
	for _, path := range []string{"/" + ride, "", "?starting_after=" + ride, "?idempotency_key=k"} {
		p.send(t, call{method: "GET", path: "/v1/rides" + path, as: h.visa}).must(t, 200, "")
	}
	p.cancelAs(t, h.visa, ride, "cancel").must(t, 200, "")
	h.fake.Script(fakestripe.Fault{Kind: fakestripe.DropAfter})
	p.hailAs(t, h.visa, "abandoned").must(t, 503, "payment_processor_unavailable")
	h.expire(t)
	completer := phases.Completer{Engine: p.engine, Poll: time.Millisecond, Concurrency: 1, Retention: time.Microsecond, Tombstones: time.Microsecond}
	counts, err := completer.Once(t.Context())
	if err != nil || counts.Finished == 0 || counts.Reaped == 0 || counts.Deleted == 0 {
		t.Fatalf("the completer did %+v (%v)", counts, err)
	}
	p.send(t, call{method: "POST", path: "/v1/rides", body: `{}`, key: "k", as: h.visa}).must(t, 422, "idempotency_key_expired")
	p.cancelAs(t, h.visa, ride, "k").must(t, 422, "idempotency_key_expired")
	sent := maps.Clone(seen.Texts())
	maps.DeleteFunc(sent, func(sql string, _ []any) bool { return strings.Contains(sql, "api_keys") }) // what it says is cached
	return sent
}

// checkScans checks that a statement reads by primary keys, except those that
// are there to find something, and those that count.
func checkScans(t *testing.T, sql string, scans []string) {
	t.Helper()
	finds := map[string]string{
		"idempotency_keys_due_idx": "ORDER BY run_after", "idempotency_keys_reapable_idx": "ORDER BY finished_at",
		"idempotency_keys_tombstone_idx": "ORDER BY reaped_at", "rides_newest_idx": "COLLATE",
		"idempotency_keys_parked_idx": "parked_reason IS NOT NULL LIMIT 1",
	}
	for _, index := range scans {
		found := finds[index] != "" && strings.Contains(sql, finds[index]) || strings.Contains(sql, "count(*) FROM idempotency_keys")
		if !found && !strings.HasSuffix(index, "_pkey") {
			t.Errorf("this reads by %s:\n%s", index, sql)
		}
	}
}

// checkOnlyOne checks that without the index nothing is left but to read all of
// its table. The page of an account is an exception: its rides could be sorted,
// but not while enable_sort is off. The other one is the parked key of a ride,
// which the primary key finds as well, only not in so few pages.
func checkOnlyOne(t *testing.T, conn *pgx.Conn, sql, index string) {
	t.Helper()
	if index == "rides_newest_idx" || index == "idempotency_keys_parked_idx" {
		return
	}
	pgtest.Execute(t, conn, `BEGIN`)
	defer pgtest.Execute(t, conn, `ROLLBACK`)
	drop := `DROP INDEX ` + index
	if table, isKey := strings.CutSuffix(index, "_pkey"); isKey {
		drop = `ALTER TABLE ` + table + ` DROP CONSTRAINT ` + index + ` CASCADE`
	}
	pgtest.Execute(t, conn, drop)
	left := pgtest.ExplainGeneric(t, conn, sql).Scans()
	if !slices.ContainsFunc(left, func(scan string) bool { return strings.HasPrefix(scan, "all of ") }) {
		t.Errorf("without %s this reads by %s:\n%s", index, left, sql)
	}
}

// fill returns a statement that inserts finished keys with their rides. account
// is an expression of n, which counts them.
func fill(account string, n int) string {
	return strings.NewReplacer("@account", account, "@count", strconv.Itoa(n)).Replace(`
		INSERT INTO idempotency_keys (account_id, key, flow, flow_version, realm, request_id, method, path, request_hash,
		       canon_version, params, recovery_point, lease_epoch, attempts, response_status, response_headers, response_body,
		       created_at, finished_at, reaped_at)
		SELECT @account, 'key_' || n, 'hail', 1, 'test', 'req', 'POST', '/v1/rides', '', 1, '', 'finished', 1, 1, 201, '{}', '',
		       now() - n * interval '1 second', now(), CASE WHEN n % 10 = 0 THEN now() END
		FROM generate_series(1, @count) AS n;
		INSERT INTO rides (account_id, id, key, status, origin_lat, origin_lon, target_lat, target_lon, fare_amount,
		       fare_currency, created_at)
		SELECT @account, 'ride_' || n, 'key_' || n, 'pending', 0, 0, 1, 1, 500, 'usd', now() - n * interval '1 second'
		FROM generate_series(1, @count) AS n`)
}
