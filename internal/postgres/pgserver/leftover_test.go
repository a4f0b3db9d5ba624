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

// unprivileged has a command run as the account that owns dir.
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

// leftover starts a Postgres on the folder of a server that was stopped, as a
// killed process would leave it: nobody's child that matters.
func leftover(t *testing.T, server *pgserver.Server) (pid int, ended <-chan struct{}) {
	t.Helper()
	bin, err := pgserver.FindBinaries()
	if err != nil {
		t.Fatal(err)
	}
	cmd := unprivileged(t, data(server), filepath.Join(bin, "postgres"), "-D", data(server),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "port="+strconv.Itoa(server.Port()))
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

	t.Run("one that listens to reason", func(t *testing.T) {
		t.Parallel()
		server := pgtest.Server(t, nil)
		note(t, server)
		stop(t, server)
		_, ended := leftover(t, server)
		again := pgtest.Restart(t, server)
		<-ended
		wantNote(t, again)
	})
	t.Run("one that only kill -9 ends", func(t *testing.T) {
		t.Parallel()
		server := pgtest.Server(t, nil)
		note(t, server)
		stop(t, server)
		pid, ended := leftover(t, server)
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		again := pgtest.Restart(t, server)
		<-ended
		wantNote(t, again)
	})
	t.Run("but not another program that has the number of the last one", func(t *testing.T) {
		t.Parallel()
		server := pgtest.Server(t, nil)
		// Of the same account: Postgres takes the number of anybody else's
		// process for stale by itself.
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
	t.Run("but not another server that has the number of the last one", func(t *testing.T) {
		t.Parallel()
		other := pgtest.Server(t, nil)
		restartAfter(t, pgtest.Server(t, nil), other.PID(), other.Done())
	})
}

// restartAfter starts the server again after it was killed and its process id
// went to a process that must not be ended.
func restartAfter(t *testing.T, server *pgserver.Server, pid int, ended <-chan struct{}) {
	t.Helper()
	note(t, server)
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
	wantNote(t, pgtest.Restart(t, server))
	select {
	case <-ended:
		t.Error("the other process was ended")
	default:
	}
}
