package pgserver_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/postgres/pgserver"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

// newServer starts a server that ends with the test.
func newServer(t *testing.T, config pgserver.Config) *pgserver.Server {
	t.Helper()
	server, err := pgserver.Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := server.Stop(ctx); err != nil {
			t.Errorf("stopping the server: %v", err)
		}
	})
	return server
}

func data(server *pgserver.Server) string { return filepath.Join(server.Config().Dir, "data") }

// insertRow inserts a row that must still be there after later starts.
func insertRow(t *testing.T, server *pgserver.Server) {
	t.Helper()
	conn := pgtest.Connect(t, server.URL())
	pgtest.Execute(t, conn, "CREATE TABLE notes (n int)")
	pgtest.Execute(t, conn, "INSERT INTO notes VALUES (1)")
}

func wantRow(t *testing.T, server *pgserver.Server) {
	t.Helper()
	var n int
	if err := pgtest.Connect(t, server.URL()).QueryRow(t.Context(), `SELECT n FROM notes`).Scan(&n); err != nil || n != 1 {
		t.Errorf("the row that was committed: %d, %v", n, err)
	}
}

func TestServer(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t, map[string]string{"work_mem": "5MB"})
	insertRow(t, server)

	conn := pgtest.Connect(t, server.URL())
	for name, want := range map[string]string{
		"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on",
		"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "password_encryption": "scram-sha-256",
		"port": strconv.Itoa(server.Config().Port), "work_mem": "5MB", "server_encoding": "UTF8", "data_directory": data(server),
	} {
		var got string
		if err := conn.QueryRow(t.Context(), `SELECT current_setting($1)`, name).Scan(&got); err != nil || got != want {
			t.Errorf("%s = %q (%v), want %q", name, got, err, want)
		}
	}
	if group, err := syscall.Getpgid(server.PID()); err != nil || group != server.PID() {
		t.Errorf("the server is in process group %d (%v): a terminal's Ctrl-C would reach it", group, err)
	}
	if stat, err := os.Stat(filepath.Join(server.Config().Dir, "password")); err != nil || stat.Mode().Perm() != 0o600 {
		t.Errorf("the password's file: %v, %v; want mode 0600", stat, err)
	}
	wrong, err := pgx.ParseConfig(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	wrong.Password = "wrong"
	if _, err := pgx.ConnectConfig(t.Context(), wrong); err == nil {
		t.Error("a wrong password is accepted")
	}

	_, err = pgserver.Start(t.Context(), server.Config())
	if err == nil || !strings.Contains(err.Error(), "belongs to another process") {
		t.Errorf("a second server on the same folder: %v, want a refusal", err)
	}

	if err := server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-server.Done()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		if err := server.Stop(over); err != nil {
			t.Errorf("stopping it again: %v", err)
		}
	}
	again := pgtest.Restart(t, server)
	if again.URL() != server.URL() {
		t.Errorf("after a restart the URL is %s, before it was %s", again.URL(), server.URL())
	}
	wantRow(t, again)
}

func TestServerStopIsImmediateWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t, nil)
	insertRow(t, server)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := server.Stop(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v, want one that wraps context.Canceled", err)
	}
	<-server.Done()
	wantRow(t, pgtest.Restart(t, server))
}

// TestServerAfterKill stops a backend, so that it outlives its postmaster and
// keeps the shared memory. Postgres refuses to start until that is gone.
func TestServerAfterKill(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t, nil)
	insertRow(t, server)
	var backend int
	if err := pgtest.Connect(t, server.URL()).QueryRow(t.Context(), `SELECT pg_backend_pid()`).Scan(&backend); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(backend, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	// It must end however this test ends.
	t.Cleanup(func() { _ = syscall.Kill(backend, syscall.SIGCONT) })
	server.Kill()
	<-server.Done()

	started := make(chan struct{})
	go func() {
		defer close(started)
		// The backend goes on after Postgres has refused to start once.
		pgtest.Eventually(t, "Postgres refuses to start beside an orphan", func() bool {
			log, err := os.ReadFile(server.Log())
			return err == nil && strings.Contains(string(log), "pre-existing shared memory block")
		})
		if err := syscall.Kill(backend, syscall.SIGCONT); err != nil {
			t.Error(err)
		}
	}()
	again := pgtest.Restart(t, server)
	<-started
	wantRow(t, again)
}

func stop(t *testing.T, server *pgserver.Server) {
	t.Helper()
	if err := server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func port(t *testing.T, listener net.Listener) int {
	t.Helper()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

//nolint:paralleltest,tparallel // the sub-tests share a folder
func TestStartFails(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t, nil)
	stop(t, server)

	t.Run("if the port is taken", func(t *testing.T) {
		listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = listener.Close() })
		config := server.Config()
		config.Port = port(t, listener)
		_, err = pgserver.Start(t.Context(), config)
		if want := listener.Addr().String() + ": the port is taken"; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("err = %v, want %q", err, want)
		}
	})
	t.Run("if Postgres does not know a setting, with Postgres's message", func(t *testing.T) {
		config := server.Config()
		config.Settings = map[string]string{"no_such_setting": "1"}
		_, err := pgserver.Start(t.Context(), config)
		if err == nil || !strings.Contains(err.Error(), `unrecognized configuration parameter "no_such_setting"`) {
			t.Errorf("err = %v, want Postgres's message", err)
		}
	})
	t.Run("if its context ends, and no process is left", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if _, err := pgserver.Start(ctx, server.Config()); err == nil {
			t.Fatal("it started in 20ms")
		}
		if _, err := os.Stat(filepath.Join(data(server), "postmaster.pid")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("postmaster.pid is there: %v", err)
		}
	})
	t.Run("but not when the cause is gone", func(t *testing.T) {
		if err := pgtest.Connect(t, pgtest.Restart(t, server).URL()).Ping(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestStartAfterIncompleteInitdb starts in the folder of a process that was
// killed before initdb's data.new was renamed to data.
func TestStartAfterIncompleteInitdb(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t, nil)
	insertRow(t, server)
	stop(t, server)
	if err := os.Rename(data(server), data(server)+".new"); err != nil {
		t.Fatal(err)
	}
	again := pgtest.Restart(t, server)
	insertRow(t, again) // fails if the table is still there
	if again.URL() == server.URL() {
		t.Error("a new database has the password of the one before")
	}
}
