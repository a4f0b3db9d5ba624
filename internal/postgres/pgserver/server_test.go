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

// newServer starts a server, and ends it with the test.
func newServer(t *testing.T, config pgserver.ServerConfig) *pgserver.Server {
	t.Helper()
	server, err := pgserver.StartServer(t.Context(), config)
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

// note writes a row that a later start must still have.
func note(t *testing.T, server *pgserver.Server) {
	t.Helper()
	conn := pgtest.Connect(t, server.URL())
	pgtest.Execute(t, conn, "CREATE TABLE notes (n int)")
	pgtest.Execute(t, conn, "INSERT INTO notes VALUES (1)")
}

func wantNote(t *testing.T, server *pgserver.Server) {
	t.Helper()
	var n int
	if err := pgtest.Connect(t, server.URL()).QueryRow(t.Context(), `SELECT n FROM notes`).Scan(&n); err != nil || n != 1 {
		t.Errorf("the row that was committed: %d, %v", n, err)
	}
}

func TestServer(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t, map[string]string{"work_mem": "5MB"})
	note(t, server)

	conn := pgtest.Connect(t, server.URL())
	for name, want := range map[string]string{
		"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on",
		"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "password_encryption": "scram-sha-256",
		"port": strconv.Itoa(server.Port()), "work_mem": "5MB", "server_encoding": "UTF8", "data_directory": data(server),
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
		t.Error("a wrong password is let in")
	}

	_, err = pgserver.StartServer(t.Context(), server.Config())
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
	wantNote(t, again)
}

func TestServerStopIsImmediateWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t, nil)
	note(t, server)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := server.Stop(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v, want one that says that there was no checkpoint", err)
	}
	<-server.Done()
	wantNote(t, pgtest.Restart(t, server))
}

// TestServerAfterKill has a backend that outlives its postmaster and keeps its
// shared memory: Postgres refuses to start until that is gone.
func TestServerAfterKill(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t, nil)
	note(t, server)
	var backend int
	if err := pgtest.Connect(t, server.URL()).QueryRow(t.Context(), `SELECT pg_backend_pid()`).Scan(&backend); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(backend, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	// Whatever happens, it must not stay.
	t.Cleanup(func() { _ = syscall.Kill(backend, syscall.SIGCONT) })
	server.Kill()
	<-server.Done()

	started := make(chan struct{})
	go func() {
		defer close(started)
		// It must have been refused once before the backend may go on.
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
	wantNote(t, again)
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
func TestStartServerFails(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t, nil)
	stop(t, server)

	t.Run("on a port that is taken", func(t *testing.T) {
		listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = listener.Close() })
		config := server.Config()
		config.Port = port(t, listener)
		_, err = pgserver.StartServer(t.Context(), config)
		if want := listener.Addr().String() + ": the port is taken"; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("err = %v, want %q", err, want)
		}
	})
	t.Run("on a setting that Postgres doesn't know, with its own words", func(t *testing.T) {
		config := server.Config()
		config.Settings = map[string]string{"no_such_setting": "1"}
		_, err := pgserver.StartServer(t.Context(), config)
		if err == nil || !strings.Contains(err.Error(), `unrecognized configuration parameter "no_such_setting"`) {
			t.Errorf("err = %v, want the server's own words", err)
		}
	})
	t.Run("when its context ends, and leaves nothing running", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if _, err := pgserver.StartServer(ctx, server.Config()); err == nil {
			t.Fatal("it started in 20ms")
		}
		if _, err := os.Stat(filepath.Join(data(server), "postmaster.pid")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("postmaster.pid is there: %v", err)
		}
	})
	t.Run("and starts once the cause is gone", func(t *testing.T) {
		if err := pgtest.Connect(t, pgtest.Restart(t, server).URL()).Ping(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestStartServerAfterHalfAnInitdb has what a kill leaves behind that came
// before the new database was moved to its place.
func TestStartServerAfterHalfAnInitdb(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t, nil)
	note(t, server)
	stop(t, server)
	if err := os.Rename(data(server), data(server)+".new"); err != nil {
		t.Fatal(err)
	}
	again := pgtest.Restart(t, server)
	note(t, again) // fails where the table is there already
	if again.URL() == server.URL() {
		t.Error("a new database has the password of the one before")
	}
}
