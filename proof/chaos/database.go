package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/pause"
	"github.com/rocketrides/rocketrides/internal/postgres"
	"github.com/rocketrides/rocketrides/internal/postgres/pgserver"
	"github.com/rocketrides/rocketrides/internal/rides"
	"github.com/rocketrides/rocketrides/proof/tripwire"
)

// A database is a Postgres server, and a connection pool that bypasses the
// links.
type database struct {
	pool *pgxpool.Pool
	url  *url.URL // restarts keep it
	dir  string
	// logs is the server's log since its first start.
	logs *os.File

	mu     sync.Mutex
	server *pgserver.Server
}

// openDatabase starts Postgres in dir and makes the schema, with tripwires. As
// a canary the server runs with synchronous_commit off, so that a crash loses
// what was acknowledged right before it.
func openDatabase(ctx context.Context, dir, logs string, canary bool) (*database, error) {
	file, err := os.Create(filepath.Join(logs, "postgres.log"))
	if err != nil {
		return nil, err
	}
	server, err := pgserver.Start(ctx, pgserver.Config{Dir: dir, Settings: serverSettings(canary)})
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	d := &database{dir: dir, logs: file, server: server}
	if err := d.prepare(ctx, canary); err != nil {
		return nil, errors.Join(err, d.close(ctx))
	}
	return d, nil
}

func serverSettings(canary bool) map[string]string {
	settings := map[string]string{
		"max_connections": "120",
		// The SQLSTATE distinguishes a tripwire's alarm from the service's own
		// aborts (22012, 23505).
		"log_line_prefix": "%m [%p] %a %e ",
	}
	if canary {
		settings["synchronous_commit"] = "off"
		settings["wal_writer_delay"] = "10s"
	}
	return settings
}

func (d *database) prepare(ctx context.Context, canary bool) error {
	if err := postgres.Migrate(ctx, d.server.URL(), slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	var err error
	if d.url, err = url.Parse(d.server.URL()); err != nil {
		return err
	}
	d.pool, err = postgres.Open(ctx, postgres.Options{URL: d.server.URL(), ApplicationName: "chaos", MaxConns: 8, AcceptUnsafe: canary})
	if err != nil {
		return err
	}
	return tripwire.Install(ctx, d.pool, rides.Flows(nil, accounts.Store{})...)
}

// address is where the server listens.
func (d *database) address() string { return d.url.Host }

// urlFor is the URL of the database for a process behind a link. It contains
// the name of the process, for the log of changes.
func (d *database) urlFor(who, address string) string {
	u := *d.url
	u.Host = address
	query := u.Query()
	query.Set("application_name", who)
	u.RawQuery = query.Encode()
	return u.String()
}

// crash ends the server and starts it again.
func (d *database) crash(ctx context.Context, how kind) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.end(ctx, how); err != nil {
		return err
	}
	if err := d.keepLog(); err != nil {
		return err
	}
	server, err := pgserver.Start(ctx, d.server.Config())
	if err != nil {
		return fmt.Errorf("starting Postgres again: %w", err)
	}
	d.server = server
	return nil
}

// end ends the server in one of the ways.
func (d *database) end(ctx context.Context, how kind) error {
	switch how {
	case killPostgres:
		return d.killAll(ctx)
	case killPostmaster:
		d.server.Kill()
	default:
		if err := d.server.Signal(syscall.SIGQUIT); err != nil {
			return fmt.Errorf("stopping Postgres: %w", err)
		}
		<-d.server.Done()
	}
	return nil
}

// killAll is kill -9 of all processes at once, as when a container is killed.
// For half a second before that it stops the WAL writer, as a slow disk would:
// a commit that did not itself write its record to disk is then lost. A commit
// that waits for its record is not affected; the canary's commits do not wait.
//
// No process may survive. The WAL writer may have been stopped while it held a
// lock; a backend that waits for that lock would never end, and the server
// could not be started again.
func (d *database) killAll(ctx context.Context) error {
	asking, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var writer int
	err := d.pool.QueryRow(asking, `SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'`).Scan(&writer)
	if err == nil && syscall.Kill(writer, syscall.SIGSTOP) == nil {
		_ = pause.For(ctx, 500*time.Millisecond)
	}
	// A postmaster that is stopped starts no more children.
	if err := d.server.Signal(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("stopping Postgres: %w", err)
	}
	children, err := childrenOf(ctx, d.server.PID())
	d.server.Kill()
	for _, child := range children {
		_ = syscall.Kill(child, syscall.SIGKILL) // it may have ended by itself
	}
	return err
}

// childrenOf lists the children of a process.
func childrenOf(ctx context.Context, parent int) ([]int, error) {
	list, err := exec.CommandContext(ctx, "ps", "-A", "-o", "ppid=,pid=").Output()
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	var children []int
	for line := range strings.Lines(string(list)) {
		var ppid, pid int
		if _, err := fmt.Sscan(line, &ppid, &pid); err == nil && ppid == parent {
			children = append(children, pid)
		}
	}
	return children, nil
}

// keepLog appends the log of the latest start to logs. The start after the next
// one would remove it, and with it the alarms of tripwires.
func (d *database) keepLog() error {
	log, err := os.Open(d.server.Log())
	if err != nil {
		return fmt.Errorf("keeping Postgres's log: %w", err)
	}
	defer log.Close() //nolint:errcheck // it was only read
	if _, err := io.Copy(d.logs, log); err != nil {
		return fmt.Errorf("keeping Postgres's log: %w", err)
	}
	return nil
}

// log returns the path of the log since the first start.
func (d *database) log() (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.logs.Name(), d.keepLog()
}

// cut ends all database sessions of one process.
func (d *database) cut(ctx context.Context, who string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, err := d.pool.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1`, who)
	return err
}

// unfinished counts the keys that are neither finished nor parked.
func (d *database) unfinished(ctx context.Context) (int, error) {
	return d.count(ctx, `idempotency_keys WHERE finished_at IS NULL AND parked_reason IS NULL`)
}

// unsettled is unfinished without the keys that know what Stripe is still
// working on: those end when Stripe does.
func (d *database) unsettled(ctx context.Context) (int, error) {
	return d.count(ctx, `idempotency_keys WHERE finished_at IS NULL AND parked_reason IS NULL AND foreign_ref IS NULL`)
}

// count counts rows, given a table and a condition.
func (d *database) count(ctx context.Context, rows string) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	err = d.pool.QueryRow(ctx, `SELECT count(*) FROM `+rows).Scan(&n)
	return n, err
}

// close ends the server and removes its files.
func (d *database) close(ctx context.Context) error {
	if d.pool != nil {
		d.pool.Close()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	d.mu.Lock()
	defer d.mu.Unlock()
	err := errors.Join(d.server.Stop(ctx), d.keepLog())
	// As root, dir may be a link to a folder that another account can reach.
	if target, evalErr := filepath.EvalSymlinks(d.dir); evalErr == nil {
		err = errors.Join(err, os.RemoveAll(target))
	}
	return errors.Join(err, os.RemoveAll(d.dir), d.logs.Close())
}

// freeAddress returns a loopback address that is free and not in used, and adds
// its port to used. The port is below those that the kernel assigns, so that it
// stays free while the process that listens there is down.
func freeAddress(ctx context.Context, used map[int]bool) (string, error) {
	const first, last = 20_000, 30_000
	offset := time.Now().Nanosecond()
	for i := range last - first {
		port := first + (offset+i)%(last-first)
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		if used[port] {
			continue
		}
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err != nil {
			continue
		}
		used[port] = true
		return address, listener.Close()
	}
	return "", errors.New("no free port from 20000 to 30000")
}
