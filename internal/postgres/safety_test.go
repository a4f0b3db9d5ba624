package postgres_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/postgres"
	"github.com/rocketrides/rocketrides/internal/postgres/pgserver"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// show returns a setting as a session sees it.
func show(t *testing.T, q querier, name string) string {
	t.Helper()
	var value string
	if err := q.QueryRow(t.Context(), `SELECT current_setting($1)`, name).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

// wantUnsafe asserts that err refuses the server for what is named.
func wantUnsafe(t *testing.T, err error, names ...string) {
	t.Helper()
	if !errors.Is(err, postgres.ErrUnsafeSettings) {
		t.Errorf("err = %v, want ErrUnsafeSettings", err)
		return
	}
	for _, name := range names {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("err = %v, want it to name %s", err, name)
		}
	}
}

// TestOpenRefusesUnsafeSessions is about settings of a role, a database or a
// URL.
func TestOpenRefusesUnsafeSessions(t *testing.T) {
	t.Parallel()
	pgtest.NotThroughPooler(t, "it has sessions with settings of their own")
	database := pgtest.URL(t)

	for parameter, names := range map[string][]string{
		"synchronous_commit=off":                {"synchronous_commit is off"},
		"synchronous_commit=local":              {"synchronous_commit is local", "standby"},
		"client_min_messages=error":             {"client_min_messages", "warn", "api migrate", "database URL"},
		"statement_timeout=0":                   {"statement_timeout", "api migrate"},
		"lock_timeout=0":                        {"lock_timeout", "api migrate"},
		"idle_in_transaction_session_timeout=0": {"idle_in_transaction_session_timeout", "api migrate"},
		"enable_seqscan=on":                     {"enable_seqscan", "api migrate"},
		"enable_bitmapscan=on":                  {"enable_bitmapscan", "api migrate"},
		"enable_sort=on":                        {"enable_sort", "api migrate"},
		"jit=on":                                {"jit", "api migrate"},
		"default_transaction_read_only=on":      {"default_transaction_read_only"},
	} {
		t.Run(parameter, func(t *testing.T) {
			t.Parallel()
			unsafe := with(t, database, parameter)
			_, err := postgres.Open(t.Context(), postgres.Options{URL: unsafe, MaxConns: 2})
			wantUnsafe(t, err, names...)
			pgtest.Open(t, postgres.Options{URL: unsafe, AcceptUnsafe: true})
		})
	}
	t.Run("a database that was never migrated, or restored from a dump", func(t *testing.T) {
		t.Parallel()
		_, err := postgres.Open(t.Context(), postgres.Options{URL: pgtest.EmptyURL(t), MaxConns: 2})
		wantUnsafe(t, err, "statement_timeout", "restored from a dump", "api migrate")
	})
	for _, safe := range []string{"synchronous_commit=remote_write", "synchronous_commit=remote_apply", "client_min_messages=warning"} {
		t.Run(safe+" is safe", func(t *testing.T) {
			t.Parallel()
			pgtest.Open(t, postgres.Options{URL: with(t, database, safe)})
		})
	}
}

// TestOpenRefusesWhatResetBringsBack opens a connection that someone else used
// before, as a pooler's is. That one's SET hides what the next RESET brings
// back, and the reverse.
func TestOpenRefusesWhatResetBringsBack(t *testing.T) {
	t.Parallel()
	pgtest.NotThroughPooler(t, "it has sessions with settings of their own")
	database := pgtest.URL(t)
	for name, c := range map[string]struct{ reset, set string }{
		"the session is safe until it is reset":   {"local", "on"},
		"the session is unsafe until it is reset": {"on", "local"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := pgtest.Connect(t, with(t, database, "synchronous_commit="+c.reset))
			pgtest.Execute(t, conn, "SET synchronous_commit = "+c.set)
			wantUnsafe(t, postgres.CheckSettings(t.Context(), conn), "synchronous_commit is local")
		})
	}
}

// TestOpenRefusesUnsafeServers is about settings of the whole server. It
// changes them while a pool is open, because each new connection is checked.
func TestOpenRefusesUnsafeServers(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t, nil)
	pool, err := postgres.Open(t.Context(), postgres.Options{URL: server.URL(), MaxConns: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	admin := pgtest.Connect(t, server.URL())

	for _, setting := range []string{"fsync", "full_page_writes"} {
		pgtest.Execute(t, admin, "ALTER SYSTEM SET "+setting+" = off")
		reload(t, admin, setting, "off")
		wantUnsafe(t, newConnection(t, pool), setting)
		_, err := postgres.Open(t.Context(), postgres.Options{URL: server.URL(), MaxConns: 2})
		wantUnsafe(t, err, setting)
		pgtest.Execute(t, admin, "ALTER SYSTEM RESET "+setting)
		reload(t, admin, setting, "on")
		if err := newConnection(t, pool); err != nil {
			t.Errorf("%s is on again, but a connection is refused: %v", setting, err)
		}
	}

	if err := server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	standBy(t, server)
	pgtest.Restart(t, server)
	_, err = postgres.Open(t.Context(), postgres.Options{URL: server.URL(), MaxConns: 2})
	wantUnsafe(t, err, "standby", "primary")
}

// newConnection has the pool replace its connections.
func newConnection(t *testing.T, pool *pgxpool.Pool) error {
	t.Helper()
	pool.Reset()
	return pool.Ping(t.Context())
}

func reload(t *testing.T, admin *pgx.Conn, setting, want string) {
	t.Helper()
	pgtest.Execute(t, admin, "SELECT pg_reload_conf()")
	// Sessions get the new settings a moment after the reload.
	pgtest.Eventually(t, setting+" is "+want, func() bool { return show(t, admin, setting) == want })
}

// standBy makes the server a standby, without a primary, from its next start
// on.
func standBy(t *testing.T, server *pgserver.Server) {
	t.Helper()
	data := filepath.Join(server.Config().Dir, "data")
	if err := os.WriteFile(filepath.Join(data, "standby.signal"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
}
