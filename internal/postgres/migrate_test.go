package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/postgres"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/migrations"
)

// first is the first migration of the tests.
var first = fstest.MapFS{
	"000001_first.up.sql":   {Data: []byte("BEGIN;\nCREATE TABLE rides (id int);\nINSERT INTO rides VALUES (1);\nCOMMIT;\n")},
	"000001_first.down.sql": {Data: []byte("BEGIN;\nDROP TABLE rides;\nCOMMIT;\n")},
}

// migrator returns a migrator with the first migration and later ones.
func migrator(later ...string) postgres.Migrator {
	files := maps.Clone(first)
	for i, sql := range later {
		files[fmt.Sprintf("%06d_later.up.sql", i+2)] = &fstest.MapFile{Data: []byte(sql)}
	}
	return postgres.Migrator{Files: files, LockTimeout: 5 * time.Second, Tries: 1}
}

// state reads the version of the schema.
func state(t *testing.T, conn *pgx.Conn) (version int, dirty bool) {
	t.Helper()
	err := conn.QueryRow(t.Context(), `SELECT version, dirty FROM schema_migrations`).Scan(&version, &dirty)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		t.Fatal(err)
	}
	return version, dirty
}

// schema lists the columns, indexes and constraints, in a comparable form.
func schema(t *testing.T, conn *pgx.Conn) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), `
		SELECT format('%s.%s %s %s %s', table_name, column_name, data_type, is_nullable, column_default)
		  FROM information_schema.columns WHERE table_schema = 'public'
		UNION SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
		UNION SELECT conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace
		ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// TestMigrateUpDownUp undoes the migrations one by one, and applies them again.
func TestMigrateUpDownUp(t *testing.T) {
	t.Parallel()
	url := pgtest.EmptyURL(t)
	conn := pgtest.Connect(t, url)
	upTo := func(version int) []string {
		t.Helper()
		if err := ours(t, version).Up(t.Context(), url); err != nil {
			t.Fatal(err)
		}
		return schema(t, conn)
	}
	newest, _ := state(t, pgtest.Connect(t, pgtest.URL(t)))
	var ups [][]string
	for version := 1; version <= newest; version++ {
		ups = append(ups, upTo(version))
	}
	if first := ups[0]; len(first) < 50 {
		t.Fatalf("after the first migration, the schema is %q", first)
	}
	for version := newest - 1; version >= 0; version-- {
		if err := ours(t, newest).Undo(t.Context(), url); err != nil {
			t.Fatal(err)
		}
		if got, dirty := state(t, conn); got != version || dirty {
			t.Errorf("after down to %d, version = %d, dirty = %t", version, got, dirty)
		}
		if version == 0 {
			break
		}
		if diff := cmp.Diff(ups[version-1], schema(t, conn)); diff != "" {
			t.Errorf("down to %d differs from up to %[1]d (-up +down):\n%s", version, diff)
		}
	}
	for _, line := range schema(t, conn) {
		if !strings.Contains(line, "schema_migrations") && !strings.Contains(line, "(version)") {
			t.Errorf("after down, this is still there: %s", line)
		}
	}
	if diff := cmp.Diff(ups[newest-1], upTo(newest)); diff != "" {
		t.Errorf("up after down differs from up (-first +second):\n%s", diff)
	}
}

// ours returns a migrator with our migrations up to a version.
func ours(t *testing.T, version int) postgres.Migrator {
	t.Helper()
	return postgres.Migrator{Files: ourFiles(t, version), LockTimeout: 5 * time.Second, Tries: 1}
}

// ourFiles returns our migrations up to a version.
func ourFiles(t *testing.T, version int) fstest.MapFS {
	t.Helper()
	files := make(fstest.MapFS)
	for _, name := range migrationFiles(t) {
		if name[:6] > fmt.Sprintf("%06d", version) {
			continue
		}
		sql, err := fs.ReadFile(migrations.Files, name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = &fstest.MapFile{Data: sql}
	}
	return files
}

func migrationFiles(t *testing.T) []string {
	t.Helper()
	names, err := fs.Glob(migrations.Files, "*.sql")
	if err != nil || len(names) == 0 {
		t.Fatalf("there are no migrations (%v)", err)
	}
	return names
}

// TestMigrationsAreTransactions checks that each file is one transaction, which
// can't stop half-way, or one statement that can't be in a transaction.
func TestMigrationsAreTransactions(t *testing.T) {
	t.Parallel()
	for _, name := range migrationFiles(t) {
		sql, err := fs.ReadFile(migrations.Files, name)
		if err != nil {
			t.Fatal(err)
		}
		statements := postgres.Split(string(sql))
		last := len(statements) - 1
		whole := last > 1 && statements[0] == "BEGIN;" && statements[last] == "COMMIT;" && bytes.Count(sql, []byte("COMMIT;")) == 1
		alone := last == 0 && strings.Contains(statements[0], " INDEX CONCURRENTLY ")
		if !whole && !alone {
			t.Errorf("%s is neither one transaction, BEGIN; … COMMIT;, nor one CREATE or DROP INDEX CONCURRENTLY", name)
		}
	}
}

// TestMigrationsTravelOneByOne checks that each message to the server is one
// statement. Citus refuses a message with two, if they are about distributed
// tables.
func TestMigrationsTravelOneByOne(t *testing.T) {
	t.Parallel()
	t.Run("each statement of our files ends with a line", func(t *testing.T) {
		t.Parallel()
		conn := pgtest.Connect(t, pgtest.EmptyURL(t))
		for _, name := range migrationFiles(t) {
			sql, err := fs.ReadFile(migrations.Files, name)
			if err != nil {
				t.Fatal(err)
			}
			for _, statement := range postgres.Split(string(sql)) {
				// Postgres prepares one statement at a time.
				_, err := conn.PgConn().Prepare(t.Context(), "", statement, nil)
				if err != nil && strings.Contains(err.Error(), "multiple commands") {
					t.Errorf("%s has two statements without the end of a line in between:\n%s", name, statement)
				}
			}
		}
	})
	t.Run("a statement is sent without its neighbours, and an error names its line", func(t *testing.T) {
		t.Parallel()
		url := pgtest.EmptyURL(t)
		const file = "-- comment;\nBEGIN;\n\nCREATE TABLE seen (\n    -- comment;\n    query text\n);\n" +
			"-- comment;\nINSERT INTO seen\nVALUES (current_query());\n\nSELECT nothing;\nCOMMIT;\n"
		err := migrator(file).Up(t.Context(), url)
		if err == nil || !strings.Contains(err.Error(), "line 12") {
			t.Errorf("err = %v, want one that names line 12", err)
		}
		if err := migrator(strings.Replace(file, "nothing", "1", 1)).Up(t.Context(), url); err != nil {
			t.Fatal(err)
		}
		var sent string
		err = pgtest.Connect(t, url).QueryRow(t.Context(), `SELECT query FROM seen`).Scan(&sent)
		if want := "INSERT INTO seen\nVALUES (current_query());"; err != nil || sent != want {
			t.Errorf("the server got %q (%v), want %q", sent, err, want)
		}
	})
}

// TestMigrateTakesTurns runs five migrators at once. If one waited for its turn
// inside the server, there would be a deadlock: CREATE INDEX CONCURRENTLY waits
// for all transactions, and the one that waits for its turn waits for the
// index.
func TestMigrateTakesTurns(t *testing.T) {
	t.Parallel()
	url := pgtest.EmptyURL(t)
	m := migrator("BEGIN;\nSELECT pg_sleep(0.1);\nINSERT INTO rides VALUES (2);\nCOMMIT;\n",
		"CREATE INDEX CONCURRENTLY rides_idx ON rides (id);\n")
	var migrators sync.WaitGroup
	for range 5 {
		migrators.Go(func() {
			if err := m.Up(t.Context(), url); err != nil {
				t.Error(err)
			}
		})
	}
	migrators.Wait()

	conn := pgtest.Connect(t, url)
	var rows int
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM rides`).Scan(&rows); err != nil || rows != 2 {
		t.Errorf("five migrators made %d rows (%v), want 2", rows, err)
	}
	if version, dirty := state(t, conn); version != 3 || dirty {
		t.Errorf("version = %d, dirty = %t; want 3, false", version, dirty)
	}
}

// TestMigrateTakesTheURLOfAPool: operators give all programs one URL, which may
// say how large a pool is.
func TestMigrateTakesTheURLOfAPool(t *testing.T) {
	t.Parallel()
	url := with(t, pgtest.EmptyURL(t), "pool_max_conns=7", "pool_min_conns=3", "pool_min_idle_conns=2",
		"pool_max_conn_lifetime=1h", "pool_health_check_period=1m", "connect_timeout=7")
	for range 2 { // the second time there is nothing to do
		if err := postgres.Migrate(t.Context(), url, nil); err != nil {
			t.Fatal(err)
		}
	}
	pgtest.Open(t, postgres.Options{URL: url})
}

func TestMigrateFailures(t *testing.T) {
	t.Parallel()

	t.Run("a file that fails leaves the version before it, and can be run again", func(t *testing.T) {
		t.Parallel()
		url := pgtest.EmptyURL(t)
		m := migrator("BEGIN;\nCREATE TABLE extra (n int);\nINSERT INTO rides (id) VALUES ('secret');\nCOMMIT;\n")
		err := m.Up(t.Context(), url)
		if err == nil || !strings.Contains(err.Error(), "version 2") {
			t.Fatalf("err = %v, want one that names the version", err)
		}
		if strings.Contains(err.Error(), "CREATE TABLE") || strings.Contains(err.Error(), "aborted") {
			t.Errorf("err = %v, want one without the file's text and without later errors", err)
		}
		conn := pgtest.Connect(t, url)
		if version, dirty := state(t, conn); version != 1 || dirty {
			t.Errorf("version = %d, dirty = %t; want 1, false", version, dirty)
		}
		if lines := strings.Join(schema(t, conn), "\n"); strings.Contains(lines, "extra") {
			t.Errorf("the file that failed changed the schema:\n%s", lines)
		}
		if err := migrator("BEGIN;\nCREATE TABLE extra (n int);\nCOMMIT;\n").Up(t.Context(), url); err != nil {
			t.Errorf("running the corrected file: %v", err)
		}
	})
	t.Run("an error never holds the values of rows", func(t *testing.T) {
		t.Parallel()
		err := migrator("BEGIN;\nCREATE UNIQUE INDEX ON rides (id);\nINSERT INTO rides VALUES (1);\nCOMMIT;\n").
			Up(t.Context(), pgtest.EmptyURL(t))
		if err == nil || strings.Contains(err.Error(), "(id)=(1)") {
			t.Errorf("err = %v, want one without the row's values", err)
		}
	})
	t.Run("a file that isn't one transaction leaves a dirty version, and an error says what to do", func(t *testing.T) {
		t.Parallel()
		url := pgtest.EmptyURL(t)
		m := migrator("CREATE INDEX CONCURRENTLY rides_idx ON rides (nothing);\n")
		if err := m.Up(t.Context(), url); err == nil {
			t.Fatal("there is no such column")
		}
		if version, dirty := state(t, pgtest.Connect(t, url)); version != 2 || !dirty {
			t.Errorf("version = %d, dirty = %t; want 2, true", version, dirty)
		}
		const want = "migration 2 stopped half-way"
		if err := m.Up(t.Context(), url); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("migrating again: %v, want %q", err, want)
		}
		pool := pgtest.Open(t, postgres.Options{URL: url, AcceptUnsafe: true})
		if err := postgres.CheckSchema(t.Context(), pool); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("checking the schema: %v, want %q", err, want)
		}
	})
}

func TestMigrateWaitsForLocks(t *testing.T) {
	t.Parallel()
	url := pgtest.EmptyURL(t)
	m := migrator("BEGIN;\nALTER TABLE rides ADD COLUMN fare int;\nCOMMIT;\n")
	if err := (postgres.Migrator{Files: first, LockTimeout: time.Second, Tries: 1}).Up(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	reader := pgtest.Connect(t, url)
	pgtest.Execute(t, reader, "BEGIN")
	pgtest.Execute(t, reader, "SELECT id FROM rides")

	m.LockTimeout, m.Tries = 50*time.Millisecond, 2
	if err := m.Up(t.Context(), url); err == nil || !strings.Contains(err.Error(), "55P03") {
		t.Fatalf("err = %v, want a lock time-out after two tries", err)
	}
	if version, dirty := state(t, reader); version != 1 || dirty {
		t.Errorf("after a lock time-out, version = %d, dirty = %t; want 1, false", version, dirty)
	}

	m.Tries = 1000
	migrated := make(chan error)
	go func() { migrated <- m.Up(t.Context(), url) }()
	watcher := pgtest.Connect(t, url)
	tries := make(map[int]bool) // by the process ids of their sessions
	pgtest.Eventually(t, "the migration waits for the reader, a second time", func() bool {
		var waiting int
		err := watcher.QueryRow(t.Context(), `
			SELECT coalesce(max(pid), 0) FROM pg_stat_activity
			 WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&waiting)
		if err != nil {
			t.Fatal(err)
		}
		tries[waiting] = true
		delete(tries, 0)
		return len(tries) > 1
	})
	pgtest.Execute(t, reader, "COMMIT")
	if err := <-migrated; err != nil {
		t.Errorf("the migration failed after the lock was released: %v", err)
	}
}

// TestAnIndexWaitsForLongTransactions: a transaction lasts for longer than a
// migration waits for a lock, as that of a backup does. If the migration gave up,
// it would leave half an index and a schema that no program starts with.
func TestAnIndexWaitsForLongTransactions(t *testing.T) {
	t.Parallel()
	url := pgtest.EmptyURL(t)
	if err := migrator().Up(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	backup := pgtest.Connect(t, url)
	pgtest.Execute(t, backup, "BEGIN ISOLATION LEVEL REPEATABLE READ")
	pgtest.Execute(t, backup, "SELECT id FROM rides")

	m := migrator("CREATE INDEX CONCURRENTLY later_idx ON rides (id);\n", "BEGIN;\nALTER TABLE rides ADD COLUMN fare int;\nCOMMIT;\n")
	m.LockTimeout, m.Tries = 50*time.Millisecond, 100
	migrated := make(chan error, 1)
	go func() { migrated <- m.Up(t.Context(), url) }()
	watcher := pgtest.Connect(t, url)
	pgtest.Eventually(t, "the index waits for longer than for a lock", func() bool {
		var waits bool
		err := watcher.QueryRow(t.Context(), `
			SELECT EXISTS (
			  SELECT FROM pg_stat_activity
			  WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%CONCURRENTLY%'
			    AND clock_timestamp() - query_start > interval '150 ms')`).Scan(&waits)
		if err != nil {
			t.Fatal(err)
		}
		if len(migrated) > 0 {
			t.Fatalf("the migration has ended: %v", <-migrated)
		}
		return waits
	})
	pgtest.Execute(t, backup, "COMMIT")
	if err := <-migrated; err != nil {
		t.Errorf("the migration failed after the transaction: %v", err)
	}
	if version, dirty := state(t, watcher); version != 3 || dirty {
		t.Errorf("version = %d, dirty = %t; want 3, false", version, dirty)
	}
}

// onWrite is a writer that calls a function at each write.
type onWrite func()

func (w onWrite) Write(p []byte) (int, error) { w(); return len(p), nil }

func TestMigrateEndsWithItsContext(t *testing.T) {
	t.Parallel()
	url := pgtest.EmptyURL(t)
	watcher := pgtest.Connect(t, url)
	running := func(query string) bool {
		var found bool
		err := watcher.QueryRow(t.Context(), `
			SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database()
			                  AND pid <> pg_backend_pid() AND state = 'active' AND query LIKE $1)`, query).Scan(&found)
		return err == nil && found
	}
	m := migrator("BEGIN;\nCREATE TABLE extra (n int);\nSELECT pg_sleep(600);\nCOMMIT;\n")

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- m.Up(ctx, url) }()
	pgtest.Eventually(t, "the migration runs", func() bool { return running("%pg_sleep%") })

	// Another migrator says that it waits for its turn, and stops waiting when
	// its context ends.
	impatient, giveUp := context.WithTimeout(t.Context(), 20*time.Second)
	defer giveUp()
	second := m
	second.Log = onWrite(giveUp)
	if err := second.Up(impatient, url); !errors.Is(err, context.Canceled) {
		t.Errorf("the second migrator: %v, want the end of its context once it waits", err)
	}

	cancel()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the first migrator: %v, want context.Canceled", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the first migrator still runs 20s after it was cancelled")
	}
	pgtest.Eventually(t, "the server ends the statement", func() bool { return !running("%pg_sleep%") })
	if version, dirty := state(t, watcher); version != 1 || dirty {
		t.Errorf("version = %d, dirty = %t; want 1, false", version, dirty)
	}
	if err := migrator("BEGIN;\nCREATE TABLE extra (n int);\nCOMMIT;\n").Up(t.Context(), url); err != nil {
		t.Errorf("the next migrator: %v", err)
	}
}
