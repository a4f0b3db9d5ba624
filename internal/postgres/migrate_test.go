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

// first is a migration that every test here can build on.
var first = fstest.MapFS{
	"000001_first.up.sql":   {Data: []byte("BEGIN;\nCREATE TABLE rides (id int);\nINSERT INTO rides VALUES (1);\nCOMMIT;\n")},
	"000001_first.down.sql": {Data: []byte("BEGIN;\nDROP TABLE rides;\nCOMMIT;\n")},
}

// migrator has the first migration and those that follow.
func migrator(later ...string) postgres.Migrator {
	files := maps.Clone(first)
	for i, sql := range later {
		files[fmt.Sprintf("%06d_later.up.sql", i+2)] = &fstest.MapFile{Data: []byte(sql)}
	}
	return postgres.Migrator{Files: files, LockTimeout: 5 * time.Second, Tries: 1}
}

// state is the version that the database says it has.
func state(t *testing.T, conn *pgx.Conn) (version int, dirty bool) {
	t.Helper()
	err := conn.QueryRow(t.Context(), `SELECT version, dirty FROM schema_migrations`).Scan(&version, &dirty)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		t.Fatal(err)
	}
	return version, dirty
}

// schema lists everything that migrations make, in a comparable form.
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

func TestMigrateUpDownUp(t *testing.T) {
	t.Parallel()
	url := pgtest.EmptyURL(t)
	conn := connect(t, url)
	ours := postgres.Migrator{Files: migrations.Files, LockTimeout: 5 * time.Second, Tries: 1}

	if err := postgres.Migrate(t.Context(), url, nil); err != nil {
		t.Fatal(err)
	}
	up := schema(t, conn)
	if len(up) < 50 {
		t.Fatalf("after up, the schema is %q", up)
	}
	if err := ours.Down(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	for _, line := range schema(t, conn) {
		if !strings.Contains(line, "schema_migrations") && !strings.Contains(line, "(version)") {
			t.Errorf("after down, this is left: %s", line)
		}
	}
	if version, dirty := state(t, conn); version != 0 || dirty {
		t.Errorf("after down, version = %d, dirty = %t; want none", version, dirty)
	}
	if err := postgres.Migrate(t.Context(), url, nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(up, schema(t, conn)); diff != "" {
		t.Errorf("up after down differs from up (-first +second):\n%s", diff)
	}
}

// TestMigrationsAreWhole holds for every file that is ever added: it can't be
// left half-way, or is alone with its statement.
func TestMigrationsAreWhole(t *testing.T) {
	t.Parallel()
	names, err := fs.Glob(migrations.Files, "*.sql")
	if err != nil || len(names) == 0 {
		t.Fatalf("there are no migrations (%v)", err)
	}
	for _, name := range names {
		file, err := fs.ReadFile(migrations.Files, name)
		if err != nil {
			t.Fatal(err)
		}
		sql := bytes.TrimSpace(file)
		whole := bytes.Count(sql, []byte("BEGIN;\n")) == 1 && bytes.HasSuffix(sql, []byte("\nCOMMIT;")) &&
			bytes.Count(sql, []byte("COMMIT;")) == 1
		alone := bytes.Contains(sql, []byte(" INDEX CONCURRENTLY ")) && bytes.Count(sql, []byte(";")) == 1
		if !whole && !alone {
			t.Errorf("%s is neither one transaction, BEGIN; … COMMIT;, nor one CREATE INDEX CONCURRENTLY", name)
		}
	}
}

// TestMigrateTakesTurns has five migrators. One that waited inside the server
// would hold up the index, which waits for every transaction, which waits for
// the index.
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

	conn := connect(t, url)
	var rows int
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM rides`).Scan(&rows); err != nil || rows != 2 {
		t.Errorf("five migrators made %d rows (%v), want 2", rows, err)
	}
	if version, dirty := state(t, conn); version != 3 || dirty {
		t.Errorf("version = %d, dirty = %t; want 3, false", version, dirty)
	}
}

func TestMigrateFailures(t *testing.T) {
	t.Parallel()

	t.Run("a file that fails leaves the version before it, and can be run again", func(t *testing.T) {
		t.Parallel()
		url := pgtest.EmptyURL(t)
		m := migrator("BEGIN;\nCREATE TABLE extra (n int);\nINSERT INTO rides (id) VALUES ('secret');\nCOMMIT;\n")
		err := m.Up(t.Context(), url)
		if err == nil || !strings.Contains(err.Error(), "version 2") || strings.Contains(err.Error(), "CREATE TABLE") {
			t.Fatalf("err = %v, want one that names the version and doesn't quote the file", err)
		}
		conn := connect(t, url)
		if version, dirty := state(t, conn); version != 1 || dirty {
			t.Errorf("version = %d, dirty = %t; want 1, false", version, dirty)
		}
		if lines := strings.Join(schema(t, conn), "\n"); strings.Contains(lines, "extra") {
			t.Errorf("the file that failed left something:\n%s", lines)
		}
		if err := migrator("BEGIN;\nCREATE TABLE extra (n int);\nCOMMIT;\n").Up(t.Context(), url); err != nil {
			t.Errorf("the file, put right: %v", err)
		}
	})
	t.Run("rows are never in an error", func(t *testing.T) {
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
		if version, dirty := state(t, connect(t, url)); version != 2 || !dirty {
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
	reader := connect(t, url)
	execute(t, reader, "BEGIN")
	execute(t, reader, "SELECT id FROM rides")

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
	watcher := connect(t, url)
	eventually(t, "the migration waits for the reader", func() bool {
		var waiting bool
		err := watcher.QueryRow(t.Context(), `
			SELECT EXISTS (SELECT 1 FROM pg_stat_activity
			                WHERE datname = current_database() AND wait_event_type = 'Lock')`).Scan(&waiting)
		return err == nil && waiting
	})
	execute(t, reader, "COMMIT")
	if err := <-migrated; err != nil {
		t.Errorf("the lock is free, and the migration says %v", err)
	}
}

func TestMigrateEndsWithItsContext(t *testing.T) {
	t.Parallel()
	url := pgtest.EmptyURL(t)
	watcher := connect(t, url)
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
	ended := make(chan error)
	go func() { ended <- m.Up(ctx, url) }()
	eventually(t, "the migration runs", func() bool { return running("%pg_sleep%") })

	// Another migrator waits for its turn, and doesn't wait for ever.
	impatient, giveUp := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer giveUp()
	if err := m.Up(impatient, url); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the second migrator: %v, want its deadline", err)
	}

	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the first migrator: %v, want context.Canceled", err)
	}
	eventually(t, "the server ends the statement", func() bool { return !running("%pg_sleep%") })
	if version, dirty := state(t, watcher); version != 1 || dirty {
		t.Errorf("version = %d, dirty = %t; want 1, false", version, dirty)
	}
	if err := migrator("BEGIN;\nCREATE TABLE extra (n int);\nCOMMIT;\n").Up(t.Context(), url); err != nil {
		t.Errorf("the next migrator: %v", err)
	}
}

func TestMigrateSetsTimeouts(t *testing.T) {
	t.Parallel()
	timeouts := func(t *testing.T, url string) map[string]string {
		t.Helper()
		conn := connect(t, url)
		found := make(map[string]string)
		for _, name := range []string{"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"} {
			found[name] = show(t, conn, name)
		}
		return found
	}

	t.Run("for a role that has none", func(t *testing.T) {
		t.Parallel()
		url := pgtest.EmptyURL(t)
		if err := postgres.Migrate(t.Context(), url, nil); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{
			"statement_timeout": "10s", "lock_timeout": "2s", "idle_in_transaction_session_timeout": "30s",
		}
		if diff := cmp.Diff(want, timeouts(t, url)); diff != "" {
			t.Errorf("time-outs (-want +got):\n%s", diff)
		}
		pgtest.Open(t, postgres.Options{URL: url})
	})
	t.Run("but not where an operator chose one", func(t *testing.T) {
		t.Parallel()
		url := pgtest.EmptyURL(t)
		operator := connect(t, url)
		database := pgx.Identifier{operator.Config().Database}.Sanitize()
		execute(t, operator, "ALTER DATABASE "+database+" SET statement_timeout = '7s'")
		execute(t, operator, "ALTER ROLE CURRENT_USER IN DATABASE "+database+" SET lock_timeout = '3s'")
		if err := postgres.Migrate(t.Context(), url, nil); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{
			"statement_timeout": "7s", "lock_timeout": "3s", "idle_in_transaction_session_timeout": "30s",
		}
		if diff := cmp.Diff(want, timeouts(t, url)); diff != "" {
			t.Errorf("time-outs (-want +got):\n%s", diff)
		}
	})
	t.Run("and its own session has none but on locks", func(t *testing.T) {
		t.Parallel()
		url := pgtest.URL(t)
		execute(t, connect(t, url), "DROP TABLE schema_migrations; DROP SCHEMA public CASCADE; CREATE SCHEMA public")
		m := migrator("BEGIN;\nCREATE TABLE seen AS SELECT current_setting('statement_timeout') AS s, " +
			"current_setting('idle_in_transaction_session_timeout') AS i, current_setting('lock_timeout') AS l;\nCOMMIT;\n")
		if err := m.Up(t.Context(), url); err != nil {
			t.Fatal(err)
		}
		var s, i, l string
		if err := connect(t, url).QueryRow(t.Context(), `SELECT s, i, l FROM seen`).Scan(&s, &i, &l); err != nil {
			t.Fatal(err)
		}
		if s != "0" || i != "0" || l != "5s" {
			t.Errorf("a migration ran with statement_timeout %s, idle_in_transaction_session_timeout %s, lock_timeout %s", s, i, l)
		}
	})
}

func TestCheckSchema(t *testing.T) {
	t.Parallel()

	for _, c := range []struct{ name, change, want string }{
		{"the schema of this binary passes", `SELECT 1`, ""},
		{"a newer schema passes", `UPDATE schema_migrations SET version = 999`, ""},
		{"an older schema is refused", `UPDATE schema_migrations SET version = 0`, "run `api migrate`"},
		{"a schema without a version is refused", `DELETE FROM schema_migrations`, "run `api migrate`"},
		{"no schema is refused", `DROP TABLE schema_migrations`, "run `api migrate`"},
		{"a dirty schema is refused", `UPDATE schema_migrations SET dirty = true`, "half-way"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			pool := pgtest.New(t)
			if _, err := pool.Exec(t.Context(), c.change); err != nil {
				t.Fatal(err)
			}
			err := postgres.CheckSchema(t.Context(), pool)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("err = %v, want %q", err, c.want)
			}
		})
	}
	t.Run("migrating leaves a newer schema alone", func(t *testing.T) {
		t.Parallel()
		url := pgtest.URL(t)
		conn := connect(t, url)
		execute(t, conn, `UPDATE schema_migrations SET version = 999`)
		if err := postgres.Migrate(t.Context(), url, nil); err != nil {
			t.Error(err)
		}
		if version, dirty := state(t, conn); version != 999 || dirty {
			t.Errorf("version = %d, dirty = %t; want 999, false", version, dirty)
		}
	})
}
