package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/postgres"
)

func TestMain(m *testing.M) {
	if run, ok := children[os.Getenv(childRole)]; ok {
		run()
		os.Exit(0)
	}
	closeTimeout = 5 * time.Second
	Main(m)
}

// recorder is a test that is itself tested: it may fail.
type recorder struct {
	testing.TB

	failed   bool
	ended    string
	messages []string
	cleanups []func()
}

func (r *recorder) Failed() bool     { return r.failed }
func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }

func (r *recorder) Logf(format string, args ...any) {
	r.messages = append(r.messages, fmt.Sprintf(format, args...))
}

func (r *recorder) Errorf(format string, args ...any) {
	r.failed = true
	r.Logf(format, args...)
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.ended = "failed"
	r.Errorf(format, args...)
}

func (r *recorder) Skipf(format string, args ...any) {
	r.ended = "skipped"
	r.Logf(format, args...)
}

// finish ends the test, with its cleanups.
func (r *recorder) finish() {
	for _, cleanup := range slices.Backward(r.cleanups) {
		cleanup()
	}
}

func (r *recorder) logged(what string) bool {
	return strings.Contains(strings.Join(r.messages, "\n"), what)
}

// dropLater drops the database that a failed test keeps.
func dropLater(t *testing.T, name string) {
	t.Helper()
	t.Cleanup(func() {
		conn, err := connect(context.Background(), shared.url)
		if err != nil {
			t.Fatal(err)
		}
		defer disconnect(context.Background(), conn)
		if _, err := conn.Exec(context.Background(), `DROP DATABASE `+name+` WITH (FORCE)`); err != nil {
			t.Error(err)
		}
	})
}

// databases lists the databases of a server.
func databases(t *testing.T, admin string) []string {
	t.Helper()
	conn, err := connect(t.Context(), admin)
	if err != nil {
		t.Fatal(err)
	}
	defer disconnect(t.Context(), conn)
	rows, err := conn.Query(t.Context(), `SELECT datname FROM pg_database`)
	if err != nil {
		t.Fatal(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestNew(t *testing.T) {
	t.Parallel()
	one, two := New(t), New(t)

	if err := postgres.CheckSchema(t.Context(), one); err != nil {
		t.Errorf("the schema: %v", err)
	}
	if _, err := one.Exec(t.Context(), `CREATE TABLE mine (n int)`); err != nil {
		t.Fatal(err)
	}
	var there bool
	if err := two.QueryRow(t.Context(), `SELECT to_regclass('mine') IS NOT NULL`).Scan(&there); err != nil || there {
		t.Errorf("two tests share a table: %t, %v", there, err)
	}
	for name, want := range map[string]string{
		"statement_timeout": "10s", "lock_timeout": "2s", "idle_in_transaction_session_timeout": "30s",
		"fsync": "on", "application_name": "TestNew",
	} {
		var got string
		if err := one.QueryRow(t.Context(), `SELECT current_setting($1)`, name).Scan(&got); err != nil || got != want {
			t.Errorf("%s = %q (%v), want %q", name, got, err, want)
		}
	}
}

func TestEmptyURL(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), EmptyURL(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	var tables int
	err = conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace`).Scan(&tables)
	if err != nil || tables != 0 {
		t.Errorf("an empty database has %d tables (%v)", tables, err)
	}
}

func TestDatabaseAfterItsTest(t *testing.T) {
	t.Parallel()

	t.Run("is dropped when the test passed", func(t *testing.T) {
		t.Parallel()
		r := &recorder{TB: t}
		name := New(r).Config().ConnConfig.Database
		r.finish()
		if r.failed {
			t.Errorf("the test failed: %q", r.messages)
		}
		if slices.Contains(databases(t, shared.url), name) {
			t.Errorf("%s is still there", name)
		}
	})
	t.Run("is kept, and its URL logged, when the test failed", func(t *testing.T) {
		t.Parallel()
		r := &recorder{TB: t}
		pool := New(r)
		dropLater(t, pool.Config().ConnConfig.Database)
		r.Errorf("something is wrong")
		r.finish()
		if !slices.Contains(databases(t, shared.url), pool.Config().ConnConfig.Database) || !r.logged(pool.Config().ConnString()) {
			t.Errorf("it is dropped, or its URL isn't in %q", r.messages)
		}
	})
	t.Run("fails the test that has not released a connection of its pool", func(t *testing.T) {
		t.Parallel()
		r := &recorder{TB: t}
		pool := New(r)
		dropLater(t, pool.Config().ConnConfig.Database)
		conn, err := pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Release()
		r.finish()
		if !r.failed || !r.logged("has not released 1 connection(s)") || r.logged("left") {
			t.Errorf("failed = %t, and the test logged %q", r.failed, r.messages)
		}
	})
	t.Run("fails the test that left a connection open", func(t *testing.T) {
		t.Parallel()
		r := &recorder{TB: t}
		conn, err := pgx.Connect(t.Context(), URL(r))
		if err != nil {
			t.Fatal(err)
		}
		dropLater(t, conn.Config().Database)
		defer disconnect(t.Context(), conn)
		if _, err := conn.Exec(t.Context(), `SELECT 'left open'`); err != nil {
			t.Fatal(err)
		}
		r.finish()
		if !r.failed || !r.logged("left 1 connection(s) open") || !r.logged("SELECT 'left open'") {
			t.Errorf("failed = %t, and the test logged %q", r.failed, r.messages)
		}
	})
}

func TestServer(t *testing.T) {
	t.Parallel()
	r := &recorder{TB: t}
	server := Server(r, map[string]string{"work_mem": "5MB"})
	pool, err := postgres.Open(t.Context(), postgres.Options{URL: server.URL(), MaxConns: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if err := postgres.CheckSchema(t.Context(), pool); err != nil {
		t.Error(err)
	}

	server.Kill()
	again := Restart(r, server)
	if again.URL() != server.URL() {
		t.Errorf("after a restart the URL is %s, before it was %s", again.URL(), server.URL())
	}
	// The connections in the pool are dead, and the pool doesn't know.
	pool.Reset()
	if err := postgres.CheckSchema(t.Context(), pool); err != nil {
		t.Errorf("the server after its restart: %v", err)
	}
	r.finish()
	<-again.Done()
	if _, err := os.Stat(server.Config().Dir); !errors.Is(err, os.ErrNotExist) || r.failed {
		t.Errorf("its folder is still there (%v), or the test logged %q", err, r.messages)
	}
}
