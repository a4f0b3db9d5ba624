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

// pollInterval is how often a process or a file that can't be waited for is
// looked at.
const pollInterval = 10 * time.Millisecond

// farewells are how a server that is not our child is asked to leave, ever less
// politely.
//
//nolint:gochecknoglobals // a table that nothing writes to
var farewells = []struct {
	signal   syscall.Signal
	patience time.Duration
}{
	{syscall.SIGINT, 3 * time.Second},  // fast: roll back, write a checkpoint
	{syscall.SIGQUIT, 6 * time.Second}, // immediate: Postgres kills its children after 5 s
	{syscall.SIGKILL, 5 * time.Second},
}

// stopLeftover stops the server that a killed process left running in the home,
// and makes the home fit for a start. The caller holds the home's lock, so the
// server belongs to nobody.
func (h home) stopLeftover(ctx context.Context, logger *slog.Logger) error {
	pid, err := h.lastPostmaster()
	if pid == 0 || err != nil {
		return err
	}
	data := h.path("data")
	for _, farewell := range farewells {
		if !isPostmaster(ctx, pid, data) {
			break
		}
		logger.InfoContext(ctx, "stopping a Postgres that an earlier run left behind",
			slog.Int("pid", pid), slog.String("signal", farewell.signal.String()))
		if err := syscall.Kill(pid, farewell.signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stopping the Postgres server (pid %d) of an earlier run: %w", pid, err)
		}
		if err := awaitEnd(ctx, pid, data, farewell.patience); err != nil {
			return err
		}
	}
	if isPostmaster(ctx, pid, data) {
		return fmt.Errorf("the Postgres server (pid %d) of an earlier run doesn't end", pid)
	}
	return h.dropStalePidFile(pid)
}

// awaitEnd waits until pid is no postmaster of data, or for patience.
func awaitEnd(ctx context.Context, pid int, data string, patience time.Duration) error {
	for end := time.Now().Add(patience); isPostmaster(ctx, pid, data) && time.Now().Before(end); {
		if err := pause.For(ctx, pollInterval); err != nil {
			return fmt.Errorf("waiting for the Postgres server (pid %d) of an earlier run: %w", pid, err)
		}
	}
	return nil
}

// dropStalePidFile removes postmaster.pid where some other process, or a
// zombie, has its number by now: Postgres looks at the number only, and would
// refuse to start. In all other cases Postgres decides better, since the file
// also tells it about memory that orphans of the last server still use.
func (h home) dropStalePidFile(pid int) error {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return nil
	}
	if err := os.Remove(h.pidFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing a stale file: %w", err)
	}
	return nil
}

func (h home) pidFile() string { return h.path("data/postmaster.pid") }

// lastPostmaster is the process that postmaster.pid names, dead or alive; 0
// when there is none.
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

// pidFileLines are those of postmaster.pid: process, folder, start time, port,
// socket folder, address, memory key, status (PostgreSQL, "Database File
// Layout"). None when there is no such file, or when it was only just created.
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

// ready reports whether the server with this process id takes connections; a
// standby takes those that only read.
func (h home) ready(pid int) bool {
	lines, err := h.pidFileLines()
	if err != nil || len(lines) < 8 || lines[0] != strconv.Itoa(pid) {
		return false
	}
	status := strings.TrimSpace(lines[7])
	return status == "ready" || status == "standby"
}
