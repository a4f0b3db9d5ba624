package pgserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rocketrides/rocketrides/internal/pause"
)

// pollInterval is the pause between two looks at a process or a file that
// nothing can wait for.
const pollInterval = 10 * time.Millisecond

// stopSignals end a server that is not our child, one after the other, until it
// has ended.
//
//nolint:gochecknoglobals // a table that nothing writes to
var stopSignals = []struct {
	signal  syscall.Signal
	timeout time.Duration
}{
	{syscall.SIGINT, 3 * time.Second},  // fast: roll back, write a checkpoint
	{syscall.SIGQUIT, 6 * time.Second}, // immediate: Postgres kills its children after 5 s
	{syscall.SIGKILL, 5 * time.Second},
}

// stopLeftover stops the server that a killed process left running in the home,
// and removes what would keep the next one from starting. The caller holds the
// home's lock, so no running process owns the server.
func (h home) stopLeftover(ctx context.Context, logger *slog.Logger) error {
	pid, err := h.lastPostmaster()
	if pid == 0 || err != nil {
		return err
	}
	data := h.path("data")
	for _, stop := range stopSignals {
		if !isPostmaster(ctx, pid, data) {
			break
		}
		logger.InfoContext(ctx, "stopping a Postgres server that an earlier run left behind",
			slog.Int("pid", pid), slog.String("signal", stop.signal.String()))
		if err := syscall.Kill(pid, stop.signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stopping the Postgres server (pid %d) of an earlier run: %w", pid, err)
		}
		if err := awaitEnd(ctx, pid, data, stop.timeout); err != nil {
			return err
		}
	}
	if isPostmaster(ctx, pid, data) {
		return fmt.Errorf("the Postgres server (pid %d) of an earlier run does not end; end it by hand", pid)
	}
	return h.removeStalePIDFile(pid)
}

// awaitEnd waits until pid is no postmaster of data, at most for timeout.
func awaitEnd(ctx context.Context, pid int, data string, timeout time.Duration) error {
	for end := time.Now().Add(timeout); isPostmaster(ctx, pid, data) && time.Now().Before(end); {
		if err := pause.For(ctx, pollInterval); err != nil {
			return fmt.Errorf("waiting for the Postgres server (pid %d) of an earlier run: %w", pid, err)
		}
	}
	return nil
}

// removeStalePIDFile removes postmaster.pid if another process, or a zombie,
// has its process id by now: Postgres looks at the id only, and would refuse to
// start. In all other cases Postgres decides better, because the file also
// names the shared memory that orphans of the last server still use.
func (h home) removeStalePIDFile(pid int) error {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return nil
	}
	if err := os.Remove(h.pidFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the stale postmaster.pid: %w", err)
	}
	return nil
}

func (h home) pidFile() string { return h.path("data/postmaster.pid") }

// lastPostmaster is the process id in postmaster.pid, whether or not that
// process runs; 0 if there is none.
func (h home) lastPostmaster() (int, error) {
	lines, err := h.pidFileLines()
	if len(lines) == 0 || err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(lines[0])
	if err != nil {
		return 0, fmt.Errorf("reading %s: %w", h.pidFile(), err)
	}
	return pid, nil
}

// pidFileLines are those of postmaster.pid: process id, folder, start time,
// port, socket folder, address, memory key, status (PostgreSQL, "Database File
// Layout"). There are none if the file does not exist or is still empty.
func (h home) pidFileLines() ([]string, error) {
	file, err := os.ReadFile(h.pidFile())
	if errors.Is(err, fs.ErrNotExist) || len(file) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the state of the server: %w", err)
	}
	return strings.Split(string(file), "\n"), nil
}

// ready reports whether the server with this process id accepts connections. A
// standby accepts those that only read.
func (h home) ready(pid int) bool {
	lines, err := h.pidFileLines()
	if err != nil || len(lines) < 8 || lines[0] != strconv.Itoa(pid) {
		return false
	}
	status := strings.TrimSpace(lines[7])
	return status == "ready" || status == "standby"
}
