package pgtest

import (
	"context"
	"fmt"
	"os"
	"testing"
)

const (
	// citusVariable names the environment variable with the URL of a database
	// of a Citus cluster.
	citusVariable = "TEST_CITUS_URL"

	// citusListVariable names the one with the file that lists the tests that
	// don't run on Citus.
	citusListVariable = "TEST_CITUS_LIST"

	// citusMark is the comment on a database whose tables may be destroyed.
	citusMark = "made for tests"
)

// distributed are our tables that are distributed by deploy/citus.sql. A table
// must follow those that it refers to.
var distributed = []string{
	"accounts", "api_keys", "idempotency_keys", "rides", "audit_records", "staged_jobs",
	"callback_endpoints", "callbacks", "stripe_events", "open_intents",
}

// undistributed are our other tables. The first holds the schema's version.
var undistributed = []string{"schema_migrations", "stripe_accounts"}

// OnCitus reports whether the tests share one database of a Citus cluster.
func OnCitus() bool { return os.Getenv(citusVariable) != "" }

// NotOnCitus skips the test if the tests run on Citus, and writes it to the
// list of those that can't, with the reason.
func NotOnCitus(tb testing.TB, reason string) {
	tb.Helper()
	if !OnCitus() {
		return
	}
	if path := os.Getenv(citusListVariable); path != "" {
		list, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			tb.Fatal(err)
		}
		defer func() { _ = list.Close() }()
		fmt.Fprintf(list, "%s: %s\n", tb.Name(), reason)
	}
	tb.Skipf("not on Citus: %s", reason)
}

// NotThroughPooler is NotOnCitus for a test that can't run through a pooler in
// transaction mode, through which the Citus cluster may be reached.
func NotThroughPooler(tb testing.TB, reason string) {
	tb.Helper()
	if !OnCitus() {
		return
	}
	if onCitus.prepare(tb, os.Getenv(citusVariable)); onCitus.pooler {
		NotOnCitus(tb, reason)
	}
}

// Activity returns the name of the view that shows all sessions, also those
// that a coordinator has on its workers.
func Activity() string {
	if OnCitus() {
		return "citus_stat_activity"
	}
	return "pg_stat_activity"
}

// Distribute distributes a table of the test's own by its column account_id if
// the tests run on Citus.
func Distribute(tb testing.TB, url, table string) {
	tb.Helper()
	if !OnCitus() {
		return
	}
	conn := Connect(tb, url)
	Execute(tb, conn, `SELECT create_distributed_table('`+table+`', 'account_id', colocate_with => '`+distributed[0]+`')`)
}

// DropConstraint drops a constraint of a table of ours. The test's database is
// its own; a shared one gets the constraint back when the test ends, and loses
// the rows of the table.
func DropConstraint(tb testing.TB, url, table, name string) {
	tb.Helper()
	conn := Connect(tb, url)
	var definition string
	if err := conn.QueryRow(tb.Context(), `SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = $1`, name).
		Scan(&definition); err != nil {
		tb.Fatalf("reading the constraint %s: %v", name, err)
	}
	alter := `ALTER TABLE ` + table
	Execute(tb, conn, alter+` DROP CONSTRAINT `+name)
	if !OnCitus() {
		return
	}
	tb.Cleanup(func() {
		for _, sql := range []string{`DELETE FROM ` + table, alter + ` ADD CONSTRAINT ` + name + ` ` + definition} {
			if _, err := conn.Exec(context.Background(), sql); err != nil {
				tb.Errorf("%s: %v", sql, err)
			}
		}
	})
}
