package pgserver_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rocketrides/rocketrides/internal/postgres/pgserver"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

// unprivileged prepares a command to run as the account that owns dir.
func unprivileged(t *testing.T, dir string, program string, args ...string) *exec.Cmd {
	t.Helper()
	stat, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir = dir
	if owner, ok := stat.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
	}
	return cmd
}

// leftover starts a Postgres in the folder of a server that was stopped. To the
// package it looks like the server of a process that was killed.
func leftover(t *testing.T, server *pgserver.Server) (pid int, ended <-chan struct{}) {
	t.Helper()
	bin, err := pgserver.FindBinaries()
	if err != nil {
		t.Fatal(err)
	}
	cmd := unprivileged(t, data(server), filepath.Join(bin, "postgres"), "-D", data(server),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "port="+strconv.Itoa(server.Config().Port))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait()
	}()
	pgtest.Eventually(t, "the leftover is ready", func() bool {
		file, err := os.ReadFile(filepath.Join(data(server), "postmaster.pid"))
		return err == nil && strings.Contains(string(file), "ready")
	})
	return cmd.Process.Pid, done
}

func TestServerStopsLeftovers(t *testing.T) {
	t.Parallel()

	t.Run("that obeys", func(t *testing.T) {
		t.Parallel()
		server := pgtest.Server(t, nil)
		insertRow(t, server)
		stop(t, server)
		_, ended := leftover(t, server)
		again := pgtest.Restart(t, server)
		<-ended
		wantRow(t, again)
	})
	t.Run("that only kill -9 ends", func(t *testing.T) {
		t.Parallel()
		server := pgtest.Server(t, nil)
		insertRow(t, server)
		stop(t, server)
		pid, ended := leftover(t, server)
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		again := pgtest.Restart(t, server)
		<-ended
		wantRow(t, again)
	})
	t.Run("but not another program that has the process id of the last one", func(t *testing.T) {
		t.Parallel()
		server := pgtest.Server(t, nil)
		// It has the account of the server: Postgres itself ignores the process
		// id of another account's process.
		sleep := unprivileged(t, data(server), "sleep", "600")
		if err := sleep.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = sleep.Wait()
		}()
		restartAfter(t, server, sleep.Process.Pid, ended)
		if err := sleep.Process.Kill(); err != nil {
			t.Error(err)
		}
		<-ended
	})
	t.Run("but not another server that has the process id of the last one", func(t *testing.T) {
		t.Parallel()
		other := pgtest.Server(t, nil)
		restartAfter(t, pgtest.Server(t, nil), other.PID(), other.Done())
	})
}

// restartAfter kills the server, gives its process id in postmaster.pid to
// another process, and starts the server again. The other process must not be
// ended.
func restartAfter(t *testing.T, server *pgserver.Server, pid int, ended <-chan struct{}) {
	t.Helper()
	insertRow(t, server)
	server.Kill()
	pidFile := filepath.Join(data(server), "postmaster.pid")
	file, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(file), "\n")
	if err := os.WriteFile(pidFile, []byte(strconv.Itoa(pid)+"\n"+rest), 0o600); err != nil {
		t.Fatal(err)
	}
	wantRow(t, pgtest.Restart(t, server))
	select {
	case <-ended:
		t.Error("the other process was ended")
	default:
	}
}
