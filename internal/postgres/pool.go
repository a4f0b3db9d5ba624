// Package postgres opens the database, refuses it if its settings are
// dangerous, and brings its schema up to date. It knows nothing of rides and
// keys.
package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// connectTimeout bounds dialling, TLS and authentication together, if the
	// URL has no connect_timeout.
	connectTimeout = 5 * time.Second

	// pingAfter is how long a connection may be idle before it is checked.
	pingAfter = 30 * time.Second

	// pingTimeout bounds the check of a connection that was idle.
	pingTimeout = 2 * time.Second
)

// Options are those of Open.
type Options struct {
	// URL names the database: a postgres:// URL or a libpq keyword string.
	// It may contain pgx's own parameters. A pooler that does not support
	// prepared statements needs default_query_exec_mode=exec.
	URL string

	// ApplicationName is shown in pg_stat_activity and in the server's log,
	// unless the URL has an application_name.
	ApplicationName string

	// MaxConns is the size of the pool, which must be positive. The URL's
	// pool_max_conns doesn't count.
	MaxConns int32

	// DialFunc replaces the dialler, for tests that break connections. Nil
	// means a connection that ends when the server is unreachable: see dialer.
	DialFunc pgconn.DialFunc

	// Health, if it is not nil, observes the errors of the pool's statements.
	Health *Health

	// Logger logs commits in doubt. Nil means no log.
	Logger *slog.Logger

	// AcceptUnsafe skips the check of the server's settings. It is only for
	// tests and for the canary of proof/chaos, which proves that the check is
	// needed: with fsync off, a crash lost 36 to 122 acknowledged commits.
	AcceptUnsafe bool
}

// Open returns a pool. The caller closes it. Each new connection is refused if
// the server could lose an acknowledged commit, keep a lock for ever or refuse
// to write. Open connects, so that a wrong URL, an unsafe server or a pooler
// that breaks transactions or loses prepared statements is an error of Open and
// not of the first request. Statements are prepared and cached, unless the URL
// has another default_query_exec_mode.
//
// Errors can be shown to an operator. They never contain the password; one
// about an unsafe setting is a sentence that says what to do.
func Open(ctx context.Context, o Options) (*pgxpool.Pool, error) {
	config, err := o.config(ctx)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, &openError{err}
	}
	if err := o.probe(ctx, pool); err != nil {
		pool.Close()
		return nil, err
	}
	return pool, nil
}

func (o Options) config(ctx context.Context) (*pgxpool.Config, error) {
	if o.URL == "" {
		return nil, errors.New("no database URL: set DATABASE_URL or --database-url")
	}
	config, err := pgxpool.ParseConfig(o.URL)
	if err != nil {
		return nil, fmt.Errorf("reading database URL: %w", err)
	}

	config.MaxConns = o.MaxConns
	// Connections are replaced from time to time, so that the load is spread
	// again after a fail-over, and so that changed role settings take effect.
	config.MaxConnLifetime = 30 * time.Minute
	config.MaxConnLifetimeJitter = 5 * time.Minute
	config.MaxConnIdleTime = 5 * time.Minute
	config.HealthCheckPeriod = 30 * time.Second
	config.PingTimeout = pingTimeout
	// A ping costs a round trip, so only a connection that was idle for long is
	// checked. On any other dead connection readers read again, and writers
	// find out what became of their transaction.
	config.ShouldPing = func(_ context.Context, idle pgxpool.ShouldPingParams) bool { return idle.IdleDuration > pingAfter }
	o.configureConn(ctx, config)
	return config, nil
}

func (o Options) configureConn(ctx context.Context, config *pgxpool.Config) {
	conn := config.ConnConfig
	if conn.ConnectTimeout == 0 {
		conn.ConnectTimeout = connectTimeout
	}
	conn.DialFunc = o.DialFunc
	if conn.DialFunc == nil {
		conn.DialFunc = dialer(conn.ConnectTimeout).DialContext
	}
	if _, ok := conn.RuntimeParams["application_name"]; !ok && o.ApplicationName != "" {
		conn.RuntimeParams["application_name"] = o.ApplicationName
	}
	if _, ok := conn.RuntimeParams["client_encoding"]; !ok {
		// The encoding of a database that was made without a locale is
		// SQL_ASCII, for which pgx's simple protocol refuses to quote.
		conn.RuntimeParams["client_encoding"] = "UTF8"
	}
	conn.Tracer = stopwatch{}
	conn.OnNotice = noticeDoubt(ctx, cmp.Or(o.Logger, slog.New(slog.DiscardHandler)))
	usable := conn.OnPgError
	conn.OnPgError = func(conn *pgconn.PgConn, err *pgconn.PgError) bool {
		return o.Health.observe(err) && usable(conn, err)
	}
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		if !o.AcceptUnsafe {
			if err := checkSettings(ctx, conn); err != nil {
				return err
			}
		}
		// Forget warnings from before: they are not about a commit.
		TookDoubtfulCommit(conn)
		return nil
	}
}

// unreachableAfter is how long a connection may get no sign of life from the
// server's host.
const unreachableAfter = 30 * time.Second

// dialer returns a dialler whose connections notice within unreachableAfter that
// the server's host is unreachable. Keepalives find that on a connection that is
// idle. None are sent while what was sent, such as a statement, is not
// acknowledged: that is found by limitUnacknowledged, which works on Linux.
// Elsewhere a statement without a deadline then waits until the system gives up
// sending it again, after a quarter of an hour or so.
func dialer(timeout time.Duration) *net.Dialer {
	return &net.Dialer{
		Timeout: timeout,
		KeepAliveConfig: net.KeepAliveConfig{
			Enable:   true,
			Idle:     unreachableAfter / 2,
			Interval: unreachableAfter / 6,
			Count:    3,
		},
		ControlContext: func(_ context.Context, network, _ string, conn syscall.RawConn) error {
			if network == "unix" {
				return nil
			}
			return limitUnacknowledged(conn, unreachableAfter)
		},
	}
}

func (o Options) probe(ctx context.Context, pool *pgxpool.Pool) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return &openError{err}
	}
	defer conn.Release()
	if o.AcceptUnsafe {
		return nil
	}
	return checkPooler(ctx, conn.Conn())
}

// An openError is why a database could not be opened, with the setting that
// names it. pgx has a line for each attempt, of which it makes two at each
// address, with TLS and without.
type openError struct{ err error }

func (e *openError) Error() string {
	var said []string
	for line := range strings.Lines(e.err.Error()) {
		if line = strings.TrimSpace(line); !slices.Contains(said, line) {
			said = append(said, line)
		}
	}
	text := "opening database (DATABASE_URL or --database-url): " + strings.ReplaceAll(strings.Join(said, "; "), ":; ", ": ")
	if errors.Is(e.err, syscall.ECONNREFUSED) {
		text += "; is Postgres running there?"
	}
	return text
}

func (e *openError) Unwrap() error { return e.err }
