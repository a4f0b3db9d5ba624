package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/postgres/pgserver"
)

// settings are those of the Postgres server that aren't its defaults. It is as
// durable as by default. Its buffers are a quarter of the machine's memory, as
// Postgres's documentation advises for a server of its own (Resource
// Consumption, shared_buffers). No checkpoint comes into a run by its own time,
// and statistics are as they are after ANALYZE until enough rows have changed.
func settings() map[string]string {
	return map[string]string{
		"shared_buffers":             fmt.Sprintf("%dMB", max(memory()/4, 256<<20)>>20),
		"max_connections":            "400",
		"max_wal_size":               "8GB",
		"min_wal_size":               "4GB", // see keepLogFiles
		"checkpoint_timeout":         "1h",
		"log_parameter_max_length":   "-1", // see capture
		"log_min_duration_statement": "-1",
		"log_line_prefix":            logPrefix,
	}
}

// durability are settings that a figure means nothing without.
func durability() []string {
	return []string{
		"server_version", "fsync", "synchronous_commit", "full_page_writes", "wal_sync_method", "shared_buffers",
		"max_wal_size", "checkpoint_timeout", "autovacuum",
	}
}

const stripeKey = "sk_test_bench"

// A lab is everything that the measured systems run on: a Postgres server, the
// stub of Stripe, and a folder.
type lab struct {
	dir        string // of this run's files; removed at its end
	programs   string // of api and completer
	server     *pgserver.Server
	admin      *pgxpool.Pool
	stripe     *program
	walInspect bool         // whether pg_walinspect can be used
	benching   atomic.Int64 // the process id of the pgbench that runs, or 0
	running    []*program
}

// openLab starts Postgres and the stub. programs is the folder of api and
// completer; empty means that of this program. The caller closes the lab, also
// after an error.
func openLab(ctx context.Context, programs string) (*lab, error) {
	if programs == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		programs = filepath.Dir(self)
	}
	// The account that runs Postgres must be able to reach the folder.
	dir, err := os.MkdirTemp("/var/tmp", "rocketrides-bench-")
	if err != nil {
		return nil, err
	}
	l := &lab{dir: dir, programs: programs}
	if err := os.Chmod(dir, 0o755); err != nil {
		return l, err
	}
	if l.server, err = pgserver.Start(ctx, pgserver.Config{Dir: filepath.Join(dir, "postgres"), Settings: settings()}); err != nil {
		return l, err
	}
	if l.admin, err = pgxpool.New(ctx, l.server.URL()); err != nil {
		return l, err
	}
	if err := l.keepLogFiles(ctx); err != nil {
		return l, err
	}
	l.stripe, err = l.startSelf(ctx, "stripe")
	return l, err
}

// keepLogFiles gives Postgres files of its log to write over, 4 GB together, as
// a server has them that has run for a while. While it makes a new one, which
// takes tens of milliseconds, nothing commits.
func (l *lab) keepLogFiles(ctx context.Context) error {
	for range 256 {
		for _, sql := range []string{`SELECT pg_logical_emit_message(false, 'bench', '')`, `SELECT pg_switch_wal()`} {
			if _, err := l.admin.Exec(ctx, sql); err != nil {
				return fmt.Errorf("filling the log: %w", err)
			}
		}
	}
	_, err := l.admin.Exec(ctx, `CHECKPOINT`)
	return err
}

// close ends all processes and removes their files.
func (l *lab) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	for _, p := range slices.Backward(l.running) {
		_ = p.Stop(ctx) // what doesn't end is killed
	}
	if l.admin != nil {
		l.admin.Close()
	}
	if l.server != nil {
		_ = l.server.Stop(ctx) // its files go with it
	}
	return os.RemoveAll(l.dir)
}

// url names a database, for a program that reaches Postgres directly.
func (l *lab) url(database string) string { return l.urlVia(database, "") }

// urlVia is url with another address, such as that of a proxy.
func (l *lab) urlVia(database, address string) string {
	u, err := url.Parse(l.server.URL())
	if err != nil {
		return "" // the server makes a good one
	}
	u.Path = "/" + database
	if address != "" {
		u.Host = address
	}
	return u.String()
}

// createDatabase makes an empty database.
func (l *lab) createDatabase(ctx context.Context, name string) error {
	_, err := l.admin.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize())
	return err
}

// connect connects to a database, for statements that take their time.
func (l *lab) connect(ctx context.Context, database string) (*pgx.Conn, error) {
	return pgx.Connect(ctx, withSetting(l.url(database), "statement_timeout", "0"))
}

// withSetting returns a database's URL for sessions with a setting of Postgres.
func withSetting(databaseURL, name, value string) string {
	return databaseURL + "&options=-c%20" + name + "%3D" + value
}

// logged returns what Postgres logs while something is done.
func (l *lab) logged(do func() error) (string, error) {
	from, err := os.Stat(l.server.Log())
	if err != nil {
		return "", err
	}
	if err := do(); err != nil {
		return "", err
	}
	log, err := os.ReadFile(l.server.Log())
	if err != nil {
		return "", err
	}
	return string(log[from.Size():]), nil
}

// exec runs statements in a database.
func (l *lab) exec(ctx context.Context, database, sql string) error {
	conn, err := l.connect(ctx, database)
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // it is only given back
	_, err = conn.PgConn().Exec(ctx, sql).ReadAll()
	return err
}

// api runs a command of the api and returns what it prints.
func (l *lab) api(ctx context.Context, databaseURL string, args ...string) ([]byte, error) {
	command := exec.CommandContext(ctx, filepath.Join(l.programs, "api"), args...)
	command.Env = append(l.environment(databaseURL), "PATH="+os.Getenv("PATH"))
	printed, err := command.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil, fmt.Errorf("api %s: %w: %s", args[0], err, exit.Stderr)
	}
	return printed, err
}

// An account hails rides.
type account struct {
	ID     string `json:"account_id"`
	APIKey string `json:"api_key"`
}

// createAccounts makes accounts in a database that was migrated. A payment
// method such as pm_card_visa is Stripe's own for tests.
func (l *lab) createAccounts(ctx context.Context, database string, n int, paymentMethod string) ([]account, error) {
	accounts := make([]account, n)
	for i := range accounts {
		printed, err := l.api(ctx, l.url(database), "accounts", "create", fmt.Sprintf("--email=%s-%d@example.com", paymentMethod, i),
			"--stripe-customer=cus_bench", "--payment-method="+paymentMethod, "--unverified", "--json")
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(printed, &accounts[i]); err != nil {
			return nil, fmt.Errorf("reading the account that was made: %w", err)
		}
	}
	return accounts, nil
}
