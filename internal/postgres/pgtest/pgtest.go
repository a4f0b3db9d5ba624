// Package pgtest gives every test a Postgres database of its own.
//
// A package whose tests need a database has
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
//
// and a test gets a pool on its own database, with the schema of production, by
//
//	pool := pgtest.New(t)
//
// The server is the one of TEST_DATABASE_URL, whose role must be allowed to
// create databases; else one that the package starts from the Postgres programs
// of this machine; else a container. TEST_POSTGRES=container forces the last. A
// server that the package started ends with the test process. If there is no
// server, tests that need one are skipped; with CI=true they fail, so that a
// green build has run them.
//
// With TEST_CITUS_URL all tests share that one database of a Citus cluster, one
// after the other, because a database takes too long to make there. It is
// emptied for each test, and its tables are distributed. Run them with
// -parallel 1000: a test that waits for its turn must not keep the subtests of
// another one waiting. What a test needs that Citus lacks, it says with
// NotOnCitus. The URL may be that of a pooler in front of a database that tests
// have used directly before; what a test needs that a pooler lacks, it says
// with NotThroughPooler. `make citus` does all that.
//
// The database of a failed test is kept, and its URL is logged. It exists as
// long as its server: to look at it after the test run, set TEST_DATABASE_URL,
// for example to the database_url in .sandbox/sandbox.json.
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
	// setupTimeout bounds what the package does before or after a test.
	setupTimeout = 2 * time.Minute

	// maxConns is the size of a test's pool unless the test needs another.
	maxConns = 20
)

// closeTimeout is how long a test's connections may take to end: a goroutine
// that the test cancelled may still be releasing one. It is shorter in the
// package's own tests, some of which wait for it.
var closeTimeout = 20 * time.Second

// Main runs the tests of a package, stops the server and exits. It is all that
// a TestMain needs. Without it the server ends too, when the process does, but
// its folder is left for the next test run to remove.
func Main(m *testing.M) {
	code := m.Run()
	if err := errors.Join(shared.stop(), model.remove()); err != nil {
		fmt.Fprintf(os.Stderr, "stopping the test database: %v\n", err)
		code = 1
	}
	os.Exit(code)
}

// New returns a pool, opened as in production, on a new and migrated database
// of the test's own. When the test ends, the pool is closed and the database
// dropped. A connection that the test has not released fails it.
func New(tb testing.TB) *pgxpool.Pool {
	tb.Helper()
	return Open(tb, postgres.Options{URL: URL(tb)})
}

// Open is postgres.Open for a test that needs other options, such as a second
// pool on a database or another dialler. The pool is closed when the test ends;
// a connection that the test has not released fails it. Without MaxConns it has
// 20 connections at most.
func Open(tb testing.TB, options postgres.Options) *pgxpool.Pool {
	tb.Helper()
	if options.MaxConns == 0 {
		options.MaxConns = maxConns
	}
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

// closePool waits for connections that are not released, but, unlike Close, not
// for ever.
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
		tb.Errorf("the test has not released %d connection(s) of its pool", pool.Stat().AcquiredConns())
	}
}

// URL returns the URL of a new and migrated database of the test's own. It is
// dropped when the test ends; a connection that is still open then fails the
// test.
func URL(tb testing.TB) string {
	tb.Helper()
	if OnCitus() {
		return onCitus.take(tb, os.Getenv(citusVariable))
	}
	return newDatabase(tb, clone)
}

// EmptyURL is URL for a test of migrations: the database is empty, and its role
// has no time-outs there.
func EmptyURL(tb testing.TB) string {
	tb.Helper()
	NotOnCitus(tb, "it needs a database without tables")
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

// Server starts a server of the test's own, with these settings in addition to
// its defaults, for a test that kills or misconfigures Postgres. Its database
// "postgres" is migrated. When the test ends, the server is stopped and its
// files are removed. Restart starts it again.
func Server(tb testing.TB, settings map[string]string) *pgserver.Server {
	tb.Helper()
	NotOnCitus(tb, "it needs a server of its own")
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
	return startServer(tb, pgserver.Config{Dir: folder.path, Settings: settings})
}

// Restart starts a server of Server again, on the same port, after it was
// stopped or killed.
func Restart(tb testing.TB, server *pgserver.Server) *pgserver.Server {
	tb.Helper()
	return startServer(tb, server.Config())
}

func startServer(tb testing.TB, config pgserver.Config) *pgserver.Server {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), setupTimeout)
	defer cancel()
	server, err := pgserver.Start(ctx, config)
	if err != nil {
		tb.Fatalf("starting a server for the test: %v", err)
	}
	tb.Cleanup(func() { discard(tb.Context(), server) })
	return server
}

// discard ends a server whose data is not needed any more.
func discard(ctx context.Context, server *pgserver.Server) {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	// Stop returns an error because there is no checkpoint; none is needed.
	_ = server.Stop(ctx)
}
