// Package postgres opens the database, refuses it when its settings would
// break the promise, and brings its schema up to date.
//
// It knows Postgres and the migrations; it knows no rides and no keys.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// connectTimeout bounds dialling, TLS and authentication together, where
	// the URL has no connect_timeout.
	connectTimeout = 5 * time.Second

	// pingAfter is how long a connection may be idle and still be trusted.
	pingAfter = 30 * time.Second

	// pingTimeout bounds the check of a connection that was idle.
	pingTimeout = 2 * time.Second

	// maxConns is the size of a pool for which nobody chose one.
	maxConns = 20
)

// Options say how Open connects.
type Options struct {
	// URL names the database: a postgres:// URL or a libpq keyword string.
	// pgx's own parameters are understood too; default_query_exec_mode=exec is
	// the one that a pooler without support for prepared statements needs.
	URL string

	// ApplicationName is shown in pg_stat_activity and in the server's log,
	// unless the URL has an application_name.
	ApplicationName string

	// MaxConns is the size of the pool. 0 means the URL's pool_max_conns, or 20
	// where it has none.
	MaxConns int32

	// DialFunc replaces the dialler, for tests that cut the wire. Nil means TCP
	// with keepalives.
	DialFunc pgconn.DialFunc

	// Logger hears of commits in doubt. Nil means nobody does.
	Logger *slog.Logger

	// AcceptUnsafe leaves out the check of the server's settings. It is for the
	// test that proves that the check matters, and for nothing else: with
	// fsync off, 36 to 122 acknowledged commits were lost per crash.
	AcceptUnsafe bool
}

// Open returns a pool whose every connection has passed the check of the
// server's settings (see ErrUnsafeSettings), and on which a transaction holds
// together. It connects once before it returns, so that a wrong URL or an
// unsafe server is an error here and not at the first request. Statements are
// prepared and cached, unless the URL's default_query_exec_mode says otherwise.
// The caller closes the pool. Errors never contain the password.
func Open(ctx context.Context, o Options) (*pgxpool.Pool, error) {
	config, err := o.config(ctx)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("opening database: %w", err)
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
	given, err := pgconn.ParseConfig(o.URL)
	if err != nil {
		return nil, fmt.Errorf("reading database URL: %w", err)
	}
	config, err := pgxpool.ParseConfig(o.URL)
	if err != nil {
		return nil, fmt.Errorf("reading database URL: %w", err)
	}

	if _, ok := given.RuntimeParams["pool_max_conns"]; !ok {
		config.MaxConns = maxConns
	}
	if o.MaxConns > 0 {
		config.MaxConns = o.MaxConns
	}
	// Connections are replaced now and then, so that the load spreads again
	// after a fail-over, and so that a change of role settings takes effect.
	config.MaxConnLifetime = 30 * time.Minute
	config.MaxConnLifetimeJitter = 5 * time.Minute
	config.MaxConnIdleTime = 5 * time.Minute
	config.HealthCheckPeriod = 30 * time.Second
	config.PingTimeout = pingTimeout
	// A ping costs a round trip. Readers read again when a connection turns out
	// to be dead, and writers find out what became of a transaction anyway;
	// only one that was idle for long is worth asking.
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
		// What a database made without a locale offers is SQL_ASCII, in which
		// pgx's simple protocol refuses to quote.
		conn.RuntimeParams["client_encoding"] = "UTF8"
	}
	conn.OnNotice = noticeDoubt(ctx, orSilent(o.Logger))
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		if !o.AcceptUnsafe {
			if err := checkSettings(ctx, conn); err != nil {
				return err
			}
		}
		// A warning that came while connecting says nothing about a commit.
		TookDoubtfulCommit(conn)
		return nil
	}
}

// dialer finds a server that vanished without a word within half a minute.
func dialer(timeout time.Duration) *net.Dialer {
	return &net.Dialer{
		Timeout: timeout,
		KeepAliveConfig: net.KeepAliveConfig{
			Enable:   true,
			Idle:     15 * time.Second,
			Interval: 5 * time.Second,
			Count:    3,
		},
	}
}

func (o Options) probe(ctx context.Context, pool *pgxpool.Pool) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("opening database: %w", err)
	}
	defer conn.Release()
	if o.AcceptUnsafe {
		return nil
	}
	return checkTransactions(ctx, conn.Conn())
}

// orSilent lets a caller that wants no logs give no logger.
func orSilent(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}
