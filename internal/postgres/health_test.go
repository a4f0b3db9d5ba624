package postgres_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/postgres"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

const (
	readOnlyCode = "25006"
	diskFullCode = "53100"
)

// observed opens a pool with a Health that observes it.
func observed(t *testing.T, url string) (*pgxpool.Pool, *postgres.Health) {
	t.Helper()
	health := &postgres.Health{}
	pool := pgtest.Open(t, postgres.Options{URL: url, Health: health})
	wantHealthy(t, health, pool)
	return pool, health
}

func wantHealthy(t *testing.T, health *postgres.Health, pool *pgxpool.Pool) {
	t.Helper()
	if err := health.Check(t.Context(), pool); err != nil {
		t.Errorf("the database can serve, but: %v", err)
	}
}

func wantUnhealthy(t *testing.T, health *postgres.Health, pool *pgxpool.Pool, why string) {
	t.Helper()
	if err := health.Check(t.Context(), pool); err == nil || !strings.Contains(err.Error(), why) {
		t.Errorf("err = %v, want one with %q", err, why)
	}
}

// write inserts a row like those of the service, and returns the SQLSTATE.
func write(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	_, err := pool.Exec(t.Context(), `INSERT INTO audit_records (account_id, id, action, data)
		SELECT 'acct_1', gen_random_uuid(), 'test', to_jsonb(repeat('x', 1900))`)
	if failed, ok := errors.AsType[*pgconn.PgError](err); ok {
		return failed.Code
	}
	if err != nil {
		t.Fatal(err)
	}
	return ""
}

// TestConnectionsToAReadOnlyServerEnd is about a primary that was demoted under
// open connections.
func TestConnectionsToAReadOnlyServerEnd(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t, nil)
	admin := pgtest.Connect(t, server.URL())
	pool, health := observed(t, server.URL())
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()

	pgtest.Execute(t, admin, "ALTER SYSTEM SET default_transaction_read_only = on")
	reload(t, admin, "default_transaction_read_only", "on")
	// The connection sees the new setting when it is idle for a moment.
	pgtest.Eventually(t, "the connection is read-only", func() bool { return show(t, conn, "transaction_read_only") == "on" })
	if conn.Conn().IsClosed() {
		t.Error("the connection was closed before it was used to write")
	}
	_, err = conn.Exec(t.Context(), `INSERT INTO audit_records VALUES ('acct_1', 'aud_1', 'test', NULL, '{}')`)
	if failed, ok := errors.AsType[*pgconn.PgError](err); !ok || failed.Code != readOnlyCode {
		t.Errorf("writing to a read-only server: %v", err)
	}
	if !conn.Conn().IsClosed() {
		t.Error("the connection to a read-only server is still open")
	}
	wantUnhealthy(t, health, pool, "default_transaction_read_only") // from a new connection

	pgtest.Execute(t, admin, "ALTER SYSTEM RESET default_transaction_read_only")
	reload(t, admin, "default_transaction_read_only", "off")
	pgtest.Eventually(t, "the database can serve again", func() bool { return health.Check(t.Context(), pool) == nil })
}

// TestHealthFindsAReadOnlyDatabase asks on connections that nobody writes on.
func TestHealthFindsAReadOnlyDatabase(t *testing.T) {
	t.Parallel()
	t.Run("by a setting of the server", func(t *testing.T) {
		t.Parallel()
		server := pgtest.Server(t, nil)
		admin := pgtest.Connect(t, server.URL())
		pool, health := observed(t, server.URL())
		pgtest.Execute(t, admin, "ALTER SYSTEM SET default_transaction_read_only = on")
		reload(t, admin, "default_transaction_read_only", "on")
		pgtest.Eventually(t, "the database can't serve", func() bool { return health.Check(t.Context(), pool) != nil })
		if n := pool.Stat().TotalConns(); n != 0 {
			t.Errorf("the pool keeps %d connection(s) to it", n)
		}
		pgtest.Execute(t, admin, "ALTER SYSTEM RESET default_transaction_read_only")
		reload(t, admin, "default_transaction_read_only", "off")
		pgtest.Eventually(t, "the database can serve again", func() bool { return health.Check(t.Context(), pool) == nil })
	})
	t.Run("by a setting of the database", func(t *testing.T) {
		t.Parallel()
		pgtest.NotOnCitus(t, "it changes a setting of the database")
		url := pgtest.URL(t)
		admin := pgtest.Connect(t, url)
		pool, health := observed(t, url)
		alter := "ALTER DATABASE " + admin.Config().Database
		pgtest.Execute(t, admin, alter+" SET default_transaction_read_only = on")
		pool.Reset() // sessions have the settings from when they began
		wantUnhealthy(t, health, pool, "default_transaction_read_only")
		pgtest.Execute(t, pgtest.Connect(t, with(t, url, "default_transaction_read_only=off")), alter+" RESET default_transaction_read_only")
		wantHealthy(t, health, pool)
	})
	t.Run("a standby", func(t *testing.T) {
		t.Parallel()
		server := pgtest.Server(t, nil)
		if err := server.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		standBy(t, server)
		pgtest.Restart(t, server)
		health := &postgres.Health{}
		pool := pgtest.Open(t, postgres.Options{URL: server.URL(), Health: health, AcceptUnsafe: true})
		wantUnhealthy(t, health, pool, "standby")
	})
}

// TestHealthTriesToWrite has a trigger in place of a full disk.
func TestHealthTriesToWrite(t *testing.T) {
	t.Parallel()
	pgtest.NotOnCitus(t, "it has a trigger")
	url := pgtest.URL(t)
	admin := pgtest.Connect(t, url)
	pool, health := observed(t, url)
	pgtest.Execute(t, admin, `
		CREATE SEQUENCE tries;
		CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
		    PERFORM nextval('tries');
		    RAISE 'No space left on device' USING ERRCODE = '`+diskFullCode+`';
		END $$;
		CREATE TRIGGER fill BEFORE INSERT ON audit_records FOR EACH ROW EXECUTE FUNCTION fill()`)
	wantHealthy(t, health, pool) // nobody has noticed yet
	if code := write(t, pool); code != diskFullCode {
		t.Fatalf("a write to the full disk: %q", code)
	}
	start := time.Now()
	for time.Since(start) < 1500*time.Millisecond {
		wantUnhealthy(t, health, pool, "No space left on device")
	}
	seconds := int(time.Since(start).Seconds()) + 1
	var tries int
	if err := admin.QueryRow(t.Context(), `SELECT last_value - 1 FROM tries`).Scan(&tries); err != nil {
		t.Fatal(err)
	}
	if tries < 1 || tries > seconds {
		t.Errorf("in %d s there were %d tries, want at least one and at most one a second", seconds, tries)
	}

	pgtest.Execute(t, admin, `DROP TRIGGER fill ON audit_records`)
	pgtest.Eventually(t, "the database can serve again", func() bool { return health.Check(t.Context(), pool) == nil })
	var left int
	if err := admin.QueryRow(t.Context(), `SELECT count(*) FROM audit_records`).Scan(&left); err != nil || left != 0 {
		t.Errorf("trying to write left %d rows (%v)", left, err)
	}
}

// TestHealthFindsAFullDisk fills a real one. Only root can make it.
func TestHealthFindsAFullDisk(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t, nil)
	disk := smallDisk(t, filepath.Join(server.Config().Dir, "data"))
	admin := pgtest.Connect(t, server.URL())
	pgtest.Execute(t, admin, "CREATE TABLESPACE small LOCATION '"+disk+"'")
	pgtest.Execute(t, admin, "ALTER TABLE audit_records SET TABLESPACE small")
	pool, health := observed(t, server.URL())

	pgtest.Eventually(t, "the disk is full", func() bool { return write(t, pool) == diskFullCode })
	for start := time.Now(); time.Since(start) < 2500*time.Millisecond; { // for three tries
		wantUnhealthy(t, health, pool, "No space left on device")
	}
	mount(t, "remount,size=64m", disk)
	pgtest.Eventually(t, "the database can serve again", func() bool { return health.Check(t.Context(), pool) == nil })
	if code := write(t, pool); code != "" {
		t.Errorf("a write to the larger disk: %s", code)
	}
}

// smallDisk mounts a file system of one megabyte for the owner of another
// folder.
func smallDisk(t *testing.T, other string) string {
	t.Helper()
	if os.Geteuid() != 0 || runtime.GOOS != "linux" {
		t.Skip("only root can mount a file system")
	}
	stat, err := os.Stat(other)
	if err != nil {
		t.Fatal(err)
	}
	owner, ok := stat.Sys().(*syscall.Stat_t)
	if !ok {
		t.Fatalf("%s has no owner", other)
	}
	dir := publicDir(t)
	mount(t, "size=1m", dir)
	t.Cleanup(func() {
		// Not with the test's context, which has ended.
		if output, err := exec.Command("umount", "--lazy", dir).CombinedOutput(); err != nil { //nolint:noctx // see above
			t.Errorf("%v: %s", err, output)
		}
	})
	if err := os.Chown(dir, int(owner.Uid), int(owner.Gid)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// mount mounts a file system in memory. The test is skipped if that is not
// allowed, as in most containers.
func mount(t *testing.T, options, dir string) {
	t.Helper()
	output, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", options, "tmpfs", dir).CombinedOutput()
	if err != nil {
		t.Skipf("mounting a file system: %v: %s", err, output)
	}
}
