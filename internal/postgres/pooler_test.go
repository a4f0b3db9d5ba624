package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rocketrides/rocketrides/internal/postgres"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

// TestOpenChecksTransactions replaces BEGIN on the wire, with the effect of a
// pooler that gives each statement to any server connection that is free.
func TestOpenChecksTransactions(t *testing.T) {
	t.Parallel()
	database := pgtest.URL(t)

	for name, instead := range map[string]string{
		"a pooler that refuses BEGIN":                         "WRONG",
		"a pooler whose BEGIN went to another server session": "     ",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := postgres.Open(t.Context(), postgres.Options{URL: database, MaxConns: 2, DialFunc: replaceBegin(instead)})
			if !errors.Is(err, postgres.ErrUnsafeSettings) || !strings.Contains(err.Error(), "transaction or session mode") {
				t.Errorf("err = %v, want ErrUnsafeSettings that says what to do", err)
			}
		})
	}
	t.Run("without a replacement Open succeeds", func(t *testing.T) {
		t.Parallel()
		pgtest.Open(t, postgres.Options{URL: database, DialFunc: replaceBegin("BEGIN")})
	})
}

func replaceBegin(instead string) pgconn.DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		return beginReplacer{conn, instead}, err
	}
}

type beginReplacer struct {
	net.Conn

	instead string
}

func (b beginReplacer) Write(p []byte) (int, error) {
	return b.Conn.Write(bytes.ReplaceAll(p, []byte("BEGIN\x00"), []byte(b.instead+"\x00")))
}

// TestOpenChecksPreparedStatements has a pooler that gives a client another
// server connection while a second client is in a transaction.
func TestOpenChecksPreparedStatements(t *testing.T) {
	t.Parallel()
	database := pgtest.URL(t)
	for _, mode := range []string{"cache_statement", "exec", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			options := postgres.Options{
				URL: with(t, database, "default_query_exec_mode="+mode), MaxConns: 2, DialFunc: new(statementLoser).dial,
			}
			if mode != "cache_statement" {
				pgtest.Open(t, options)
				return
			}
			_, err := postgres.Open(t.Context(), options)
			wantUnsafe(t, err, "prepared statements", "default_query_exec_mode=exec")
		})
	}
}

// A statementLoser is the effect of a pooler on prepared statements: while one
// client is in a transaction, the statements of the others are not found.
type statementLoser struct {
	inTransaction atomic.Pointer[loserConn]
}

func (l *statementLoser) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	return &loserConn{conn, l}, err
}

type loserConn struct {
	net.Conn

	loser *statementLoser
}

func (c *loserConn) Write(p []byte) (int, error) {
	switch who := c.loser.inTransaction.Load(); {
	case bytes.Contains(p, []byte("BEGIN\x00")):
		c.loser.inTransaction.Store(c)
	case who == c && (bytes.Contains(p, []byte("COMMIT\x00")) || bytes.Contains(p, []byte("ROLLBACK\x00"))):
		c.loser.inTransaction.Store(nil)
	case who != nil && who != c:
		p = bytes.ReplaceAll(p, []byte("stmtcache_"), []byte("elsewhere_"))
	}
	return c.Conn.Write(p)
}

// TestOpenThroughPgBouncer needs a PgBouncer on this machine.
func TestOpenThroughPgBouncer(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t, nil)
	for _, c := range []struct {
		name, settings, mode string
		opens                int
		refused              bool
	}{
		// What the first client has prepared does not hide the fault.
		{"in transaction mode", "pool_mode = transaction", "cache_statement", 3, true},
		{"in transaction mode, in turn", "pool_mode = transaction\nserver_round_robin = 1", "cache_statement", 3, true},
		{"in transaction mode with one server connection", "pool_mode = transaction\ndefault_pool_size = 1", "cache_statement", 1, false},
		{"in transaction mode without prepared statements", "pool_mode = transaction", "exec", 3, false},
		{"in session mode", "pool_mode = session", "cache_statement", 3, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			options := postgres.Options{
				URL: with(t, pgBouncer(t, server.URL(), c.settings), "default_query_exec_mode="+c.mode), MaxConns: 2,
			}
			for range c.opens {
				if !c.refused {
					pgtest.Open(t, options)
					continue
				}
				_, err := postgres.Open(t.Context(), options)
				wantUnsafe(t, err, "prepared statements", "default_query_exec_mode=exec")
			}
		})
	}
	t.Run("in statement mode", func(t *testing.T) {
		t.Parallel()
		_, err := postgres.Open(t.Context(), postgres.Options{
			URL: with(t, pgBouncer(t, server.URL(), "pool_mode = statement"), "default_query_exec_mode=exec"), MaxConns: 2,
		})
		wantUnsafe(t, err, "transaction or session mode")
	})
}

// pgBouncer starts a PgBouncer in front of a database, and returns the URL of
// that database through it.
func pgBouncer(t *testing.T, databaseURL, settings string) string {
	t.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		if program, err = exec.LookPath("/usr/sbin/pgbouncer"); err != nil {
			t.Skip("there is no pgbouncer on this machine")
		}
	}
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	port := address[strings.LastIndex(address, ":")+1:]
	password, _ := u.User.Password()
	config := filepath.Join(publicDir(t), "pgbouncer.ini")
	err = os.WriteFile(config, fmt.Appendf(nil, `[databases]
* = host=%s port=%s user=%s password=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %s
unix_socket_dir =
auth_type = any
%s
`, u.Hostname(), u.Port(), u.User.Username(), password, port, settings), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), program, config)
	command.SysProcAttr = &syscall.SysProcAttr{Credential: unprivileged(t)}
	var log bytes.Buffer
	command.Stderr = &log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		if t.Failed() {
			t.Logf("%s logged:\n%s", program, &log)
		}
	})
	pgtest.Eventually(t, "PgBouncer listens", func() bool {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	u.Host = address
	return u.String()
}

// publicDir returns a folder that every account can read.
func publicDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "rocketrides-test-") //nolint:usetesting // only root can reach a folder of t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// unprivileged returns the account for a program that refuses to run as root,
// or nil if the test does not run as root.
func unprivileged(t *testing.T) *syscall.Credential {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Skip(err)
	}
	uid, uidErr := strconv.ParseUint(nobody.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(nobody.Gid, 10, 32)
	if err := errors.Join(uidErr, gidErr); err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // it only had to find a port
	return listener.Addr().String()
}
