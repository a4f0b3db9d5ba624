package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/postgres"
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

// distributed are our tables that are distributed, and by which column; see
// section "Beyond one machine" in internal/phases/doc.go. A table must follow
// those that it refers to.
var distributed = []struct{ table, by string }{
	{"accounts", "id"},
	{"api_keys", "account_id"},
	{"idempotency_keys", "account_id"},
	{"rides", "account_id"},
	{"audit_records", "account_id"},
	{"staged_jobs", "account_id"},
	{"callback_endpoints", "account_id"},
	{"callbacks", "account_id"},
	{"stripe_events", "account_id"},
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
	if err := distribute(tb.Context(), Connect(tb, url), table, "account_id"); err != nil {
		tb.Fatal(err)
	}
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

func distribute(ctx context.Context, conn *pgx.Conn, table, by string) error {
	with := distributed[0].table
	if table == with {
		with = "none"
	}
	if _, err := conn.Exec(ctx, `SELECT create_distributed_table($1, $2, colocate_with => $3)`, table, by, with); err != nil {
		return fmt.Errorf("distributing %s: %w", table, err)
	}
	return nil
}

// A sharedDatabase is one that tests use one after the other.
type sharedDatabase struct {
	once   sync.Once
	err    error
	pooler bool // the tests go through one

	// turn is held by the test that uses the database.
	turn sync.Mutex

	mu     sync.Mutex
	holder string // its name
}

// take waits until no other test uses the database, and empties it.
func (s *sharedDatabase) take(tb testing.TB, url string) string {
	tb.Helper()
	s.mu.Lock()
	if s.holder != "" && (tb.Name() == s.holder || strings.HasPrefix(tb.Name(), s.holder+"/")) {
		s.mu.Unlock()
		NotOnCitus(tb, "it needs a second database beside that of "+s.holder)
	}
	s.mu.Unlock()
	s.turn.Lock()
	s.hold(tb.Name())
	tb.Cleanup(func() { s.hold(""); s.turn.Unlock() })

	s.prepare(tb, url)
	ctx, cancel := context.WithTimeout(tb.Context(), setupTimeout)
	defer cancel()
	if err := empty(ctx, url); err != nil {
		tb.Fatalf("emptying the Citus database: %v", err)
	}
	return url
}

func (s *sharedDatabase) hold(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holder = name
}

// prepare makes the schema anew, once for the process. Through a pooler it
// can't, and only checks that it was made.
func (s *sharedDatabase) prepare(tb testing.TB, url string) {
	tb.Helper()
	s.once.Do(func() {
		ctx, cancel := context.WithTimeout(tb.Context(), setupTimeout)
		defer cancel()
		s.pooler, s.err = prepareCitus(ctx, url)
	})
	if s.err != nil {
		tb.Fatalf("preparing the Citus database: %v", s.err)
	}
}

// prepareCitus prepares the database at url, and reports whether url leads to a
// pooler.
func prepareCitus(ctx context.Context, url string) (pooler bool, err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return false, err
	}
	defer disconnect(ctx, conn)
	var server uint32
	var marked, made bool
	err = conn.QueryRow(ctx, `
		SELECT pg_backend_pid(), coalesce(shobj_description(oid, 'pg_database') = '`+citusMark+`', false),
		       to_regclass('schema_migrations') IS NOT NULL
		FROM pg_database WHERE datname = current_database()`).Scan(&server, &marked, &made)
	pooler = server != conn.PgConn().PID()
	switch {
	case err != nil:
		return false, err
	case !marked:
		return pooler, fmt.Errorf("the tests would destroy what is in it; if they may, run: COMMENT ON DATABASE %s IS '%s'",
			pgx.Identifier{conn.Config().Database}.Sanitize(), citusMark)
	case pooler && !made:
		return pooler, errors.New("it has no tables yet, and a pooler can't make them: run the tests without it first")
	case pooler:
		return pooler, nil
	}
	return pooler, makeSchema(ctx, conn, url)
}

func makeSchema(ctx context.Context, conn *pgx.Conn, url string) error {
	if err := dropTables(ctx, conn, []string{}); err != nil {
		return err
	}
	if err := postgres.Migrate(ctx, url, nil); err != nil {
		return err
	}
	// Four are fast, and enough to have several on each of two workers.
	if _, err := conn.Exec(ctx, `SET citus.shard_count = 4`); err != nil {
		return err
	}
	for _, d := range distributed {
		if err := distribute(ctx, conn, d.table, d.by); err != nil {
			return err
		}
	}
	return nil
}

// empty empties our tables and drops those that a test made.
func empty(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer disconnect(ctx, conn)
	ours := slices.Clone(undistributed)
	for _, d := range distributed {
		ours = append(ours, d.table)
	}
	if err := dropTables(ctx, conn, ours); err != nil {
		return err
	}
	ours = append(ours[1:], postgres.RiverSchema+".river_job", postgres.RiverSchema+".river_leader")
	for _, name := range slices.Backward(ours) { // those that refer to others first
		// TRUNCATE takes ten times as long: it makes new files for all shards.
		if _, err := conn.Exec(ctx, `DELETE FROM `+name); err != nil {
			return err
		}
	}
	return nil
}

// dropTables drops all tables except some.
func dropTables(ctx context.Context, conn *pgx.Conn, except []string) error {
	rows, err := conn.Query(ctx, `SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' AND tablename <> ALL ($1)`, except)
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, err := conn.Exec(ctx, `DROP TABLE IF EXISTS `+pgx.Identifier{name}.Sanitize()+` CASCADE`); err != nil {
			return err
		}
	}
	return nil
}
