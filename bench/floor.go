package main

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rocketrides/rocketrides/internal/postgres/pgserver"
)

// The floor is what pgbench reaches with the statements of a ride, and nothing
// but them: no HTTP, no Stripe, no service. The frozen one is the schema and
// the statements of 26 November 2026, commit 4df118e, and never changes, so
// that figures of different times can be compared. ride.sql is what
// captureScript returned then, and schema.sql what pg_dump --schema-only wrote
// of the four tables that it names, without comments and settings.
var (
	//go:embed floor/schema.sql
	frozenSchema string
	//go:embed floor/ride.sql
	frozenRide string
)

// startFloor returns the system that sends a script with pgbench.
func (l *lab) startFloor(name, database, script string) (*system, error) {
	path := filepath.Join(l.dir, database+".sql")
	if err := os.WriteFile(path, []byte(script), 0o644); err != nil {
		return nil, err
	}
	s := &system{name: name, database: database, url: l.url(database)}
	s.load = func(ctx context.Context, w workload, r *recorder) error { return l.pgbench(ctx, s.url, path, w, r) }
	return s, nil
}

// pgbench runs a script until ctx ends. It asks the server for prepared
// statements, as the service does.
func (l *lab) pgbench(ctx context.Context, databaseURL, script string, w workload, r *recorder) error {
	program, err := findPgbench()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(l.dir, "pgbench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // close removes it at the latest
	command := exec.CommandContext(context.WithoutCancel(ctx), program,
		"--no-vacuum", "--protocol=prepared", "--file="+script, "--client="+strconv.Itoa(w.clients),
		"--jobs="+strconv.Itoa(min(w.clients, processors())), "--time=3600",
		"--log", "--log-prefix="+filepath.Join(dir, "log"), databaseURL)
	var said strings.Builder
	command.Stdout, command.Stderr = &said, &said
	if err := command.Start(); err != nil {
		return err
	}
	l.benching.Store(int64(command.Process.Pid))
	defer l.benching.Store(0)
	// A signal would lose the end of its log. Without connections it ends in
	// order.
	unhook := context.AfterFunc(ctx, func() {
		_, _ = l.admin.Exec(context.WithoutCancel(ctx), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgbench'`)
	})
	_ = command.Wait() // its state says how it ended
	if unhook() {
		return fmt.Errorf("pgbench: %s: %s", command.ProcessState, said.String())
	}
	logs, err := filepath.Glob(filepath.Join(dir, "log*"))
	for _, log := range logs {
		err = errors.Join(err, readTransactions(log, r))
	}
	return err
}

// findPgbench returns the path of pgbench, which is mostly beside the server's
// programs. It returns an error if this machine has none.
func findPgbench() (string, error) {
	if bin, err := pgserver.FindBinaries(); err == nil {
		if path, err := exec.LookPath(filepath.Join(bin, "pgbench")); err == nil {
			return path, nil
		}
	}
	return exec.LookPath("pgbench")
}

// pgbenchTime is the processor time of the pgbench that runs, if one does.
func (l *lab) pgbenchTime() time.Duration {
	if pid := l.benching.Load(); pid != 0 {
		return usageOf(int(pid)).own
	}
	return 0
}

// readTransactions reads pgbench's log, which has a line for each transaction:
// client, number, microseconds that it took, script, and the time of its end in
// seconds and microseconds.
func readTransactions(path string, r *recorder) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // it was only read
	var samples []sample
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var client, number, took, script, seconds, micros int64
		if _, err := fmt.Sscan(lines.Text(), &client, &number, &took, &script, &seconds, &micros); err != nil {
			return fmt.Errorf("reading pgbench's log: %w", err)
		}
		samples = append(samples, sample{
			end: time.Unix(seconds, micros*1000), latency: time.Duration(took) * time.Microsecond, status: created,
		})
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("reading pgbench's log: %w", err)
	}
	r.add(samples...)
	return nil
}
