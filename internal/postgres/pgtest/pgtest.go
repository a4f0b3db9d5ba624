// Package pgtest gives every test a Postgres database of its own.
//
// The server is the one of TEST_DATABASE_URL (its role must be allowed to
// create databases), else one that the package starts from the Postgres
// programs of this machine, else a container; TEST_POSTGRES=container forces
// the last. A server that the package started ends with the test process. With
// no server to be had a test is skipped, and fails when CI=true: a green build
// has run them.
//
// The database of a failed test is kept, and its URL is logged. It lives as
// long as its server: to look at it afterwards, run with TEST_DATABASE_URL,
// such as the database_url in .sandbox/sandbox.json.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/postgres"
	"github.com/rocketrides/rocketrides/internal/postgres/pgserver"
)

const (
	// setupTimeout bounds everything that is done before or after a test.
	setupTimeout = 2 * time.Minute

	// closeTimeout is how long a test's connections may take to come back: a
	// goroutine that the test cancelled may still be returning one.
	closeTimeout = 5 * time.Second
)

// Main runs the tests of a package and ends the server after them. It is the
// whole of a TestMain:
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
//
// Without it the server ends too, but is not shut down, and leaves its folder
// for the next run to tidy up.
func Main(m *testing.M) {
	code := m.Run()
	if err := errors.Join(shared.stop(), model.remove()); err != nil {
		fmt.Fprintf(os.Stderr, "stopping the test database: %v\n", err)
		code = 1
	}
	os.Exit(code)
}

// New returns a pool on a fresh, migrated database of the test's own, opened as
// production does. The pool is closed and the database dropped when the test
// ends. A connection that the test never gave back fails it.
func New(tb testing.TB) *pgxpool.Pool {
	tb.Helper()
	return Open(tb, postgres.Options{URL: URL(tb)})
}

// Open is postgres.Open for a test that needs other options: a second pool on a
// database, another dialler. The pool is closed when the test ends; a
// connection that the test never gave back fails it.
func Open(tb testing.TB, options postgres.Options) *pgxpool.Pool {
	tb.Helper()
	if options.ApplicationName == "" {
		options.ApplicationName = tb.Name()
	}
	pool, err := postgres.Open(tb.Context(), options)
	if err != nil {
		tb.Fatalf("opening the test database: %v", err)
	}
	tb.Cleanup(func() { closePool(tb, pool) })
	return pool
}

// closePool waits for the connections that are still out, but not for ever, as
// Close would.
func closePool(tb testing.TB, pool *pgxpool.Pool) {
	tb.Helper()
	closed := make(chan struct{})
	go func() {
		pool.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(closeTimeout):
		tb.Errorf("the test never gave back %d connection(s) of its pool", pool.Stat().AcquiredConns())
	}
}

// URL returns the URL of a fresh, migrated database of the test's own. It is
// dropped when the test ends; a connection that is still open then fails the
// test.
func URL(tb testing.TB) string {
	tb.Helper()
	return newDatabase(tb, clone)
}

// EmptyURL is URL for a test of migrations: nothing is in the database, and its
// role has no time-outs there.
func EmptyURL(tb testing.TB) string {
	tb.Helper()
	return newDatabase(tb, create)
}

func newDatabase(tb testing.TB, create func(context.Context, string) (*database, error)) string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), setupTimeout)
	defer cancel()
	database, err := create(ctx, adminURL(ctx, tb))
	if err != nil {
		tb.Fatalf("making a database for the test: %v", err)
	}
	tb.Cleanup(func() { database.finish(tb) })
	return database.url
}

// Server starts a server of the test's own, with these settings on top of its
// defaults, for a test that kills or misconfigures Postgres. Its database
// "postgres" is migrated. It is stopped, and its files are removed, when the
// test ends. Restart starts it again.
func Server(tb testing.TB, settings map[string]string) *pgserver.Server {
	tb.Helper()
	needBinaries(tb)
	folder, err := model.copy(tb.Context())
	if err != nil {
		tb.Fatalf("making a server for the test: %v", err)
	}
	tb.Cleanup(func() {
		if err := folder.remove(); err != nil {
			tb.Errorf("removing the server's folder: %v", err)
		}
	})
	return startServer(tb, pgserver.ServerConfig{Dir: folder.path, Settings: settings})
}

// Restart starts a server of Server again, on the same port, after it was
// stopped or killed.
func Restart(tb testing.TB, server *pgserver.Server) *pgserver.Server {
	tb.Helper()
	return startServer(tb, server.Config())
}

func startServer(tb testing.TB, config pgserver.ServerConfig) *pgserver.Server {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), setupTimeout)
	defer cancel()
	server, err := pgserver.StartServer(ctx, config)
	if err != nil {
		tb.Fatalf("starting a server for the test: %v", err)
	}
	tb.Cleanup(func() { discard(tb.Context(), server) })
	return server
}

// discard ends a server whose data nobody needs any more.
func discard(ctx context.Context, server *pgserver.Server) {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	// Stop reports that there was no checkpoint, which is what is wanted.
	_ = server.Stop(ctx)
}
