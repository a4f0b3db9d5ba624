package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/postgres"
)

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
	if _, err := conn.Exec(ctx, `DROP FUNCTION IF EXISTS idempotency_key_is_sound, ride_is_sound`); err != nil {
		return err
	}
	if err := postgres.Migrate(ctx, url, nil); err != nil {
		return err
	}
	return distributeSchema(ctx, conn)
}

// DistributeSchema distributes again what a test of migrations has made again,
// if the tests run on Citus.
func DistributeSchema(tb testing.TB, url string) {
	tb.Helper()
	if !OnCitus() {
		return
	}
	if err := distributeSchema(tb.Context(), Connect(tb, url)); err != nil {
		tb.Fatal(err)
	}
}

func distributeSchema(ctx context.Context, conn *pgx.Conn) error {
	sql, err := os.ReadFile(distributionFile())
	if err != nil {
		return err
	}
	// Four shards are fast, and enough to have several on each of two workers.
	_, err = conn.Exec(ctx, `SET citus.shard_count = 4; `+string(sql))
	return err
}

// distributionFile is the path of deploy/citus.sql.
func distributionFile() string {
	_, here, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(here), "..", "..", "..", "deploy", "citus.sql")
}

// empty empties our tables and drops those that a test made.
func empty(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer disconnect(ctx, conn)
	ours := slices.Concat(undistributed, distributed)
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
	// A new database begins to count its jobs at 1, and tests name them so.
	_, err = conn.Exec(ctx, `SELECT setval('`+postgres.RiverSchema+`.river_job_id_seq', 1, false)`)
	return err
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
