package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/golang-migrate/migrate/v4"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/pause"
	"github.com/rocketrides/rocketrides/migrations"
)

// closeTimeout bounds the orderly end of a connection.
const closeTimeout = 5 * time.Second

// Migrate brings the schema of the database at url up to date, and River's
// schema beside it, and gives the role of url the settings that Open demands
// and the role lacks. A schema that is newer than this binary stays as it is.
//
// Any number of migrators may run at once: they take turns. A file that is one
// transaction changes schema and version together. If it fails, is cancelled or
// is killed, it has changed nothing and can be run again. The url must lead to
// the server itself or to a pooler in session mode, because migrators take
// turns by a lock of the session. A nil logger means no log.
func Migrate(ctx context.Context, url string, logger *slog.Logger) error {
	m := migrator{
		files:       migrations.Files,
		lockTimeout: 3 * time.Second,
		tries:       10,
		pause:       time.Second,
		logger:      cmp.Or(logger, slog.New(slog.DiscardHandler)),
	}
	return m.up(ctx, url)
}

// A migrator applies files to databases.
type migrator struct {
	files fs.FS

	// lockTimeout bounds the wait for one lock, except in CREATE and DROP INDEX
	// CONCURRENTLY. While a migration waits, requests queue up behind it; so it
	// gives up, makes a pause and tries again, up to tries times.
	lockTimeout time.Duration
	tries       int
	pause       time.Duration

	logger *slog.Logger
}

func (m migrator) up(ctx context.Context, url string) error {
	config, err := parse(url)
	if err != nil {
		return err
	}
	if err := m.applyInTurn(ctx, config); err != nil {
		return err
	}
	return repairRole(ctx, config, m.logger)
}

// parse returns how to connect to the database at url, which may also have the
// parameters of a pool. The server would refuse those.
func parse(url string) (*pgx.ConnConfig, error) {
	pool, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("reading database URL: %w", err)
	}
	config := pool.ConnConfig
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	return config, nil
}

func (m migrator) applyInTurn(ctx context.Context, config *pgx.ConnConfig) error {
	turn, err := m.takeTurn(ctx, config)
	if err != nil {
		return err
	}
	defer closeConn(ctx, turn)

	for try := 1; ; try++ {
		err := m.apply(ctx, config)
		if err == nil {
			err = m.migrateRiver(ctx, config)
		}
		if try == m.tries || !isCode(err, pgerrcode.LockNotAvailable) {
			return err
		}
		m.logger.InfoContext(ctx, "a lock is taken; trying the migration again", slog.Int("try", try))
		if err := pause.For(ctx, m.pause); err != nil {
			return fmt.Errorf("waiting for a lock: %w", err)
		}
	}
}

// apply brings the schema up to date, file by file.
func (m migrator) apply(ctx context.Context, config *pgx.ConnConfig) error {
	steps, err := m.open(ctx, config)
	if err != nil {
		return err
	}
	// An earlier error matters more than that of Close.
	defer func() { _, _ = steps.Close() }()

	before, err := m.version(steps)
	if err != nil {
		return err
	}
	latest, err := latestVersion(m.files)
	if err != nil {
		return err
	}
	if before > latest {
		m.logger.InfoContext(ctx, "the schema is newer than this binary; nothing to do",
			slog.Uint64("schema", uint64(before)), slog.Uint64("known", uint64(latest)))
		return nil
	}
	err = steps.Up()
	if ctx.Err() != nil {
		return fmt.Errorf("migrating: %w", context.Cause(ctx))
	}
	if err != nil && !errors.Is(err, migrate.ErrNoChange) {
		return fmt.Errorf("migrating: %w", err)
	}
	m.logger.InfoContext(ctx, "the schema is up to date",
		slog.Uint64("before", uint64(before)), slog.Uint64("schema", uint64(latest)))
	return nil
}

// version is the version of the schema; 0 means that there is no schema.
func (m migrator) version(steps *migrate.Migrate) (uint, error) {
	version, dirty, err := steps.Version()
	if errors.Is(err, migrate.ErrNilVersion) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reading the schema's version: %w", err)
	}
	if dirty {
		return 0, dirtyError(version)
	}
	return version, nil
}

// dirtyError says how to repair a schema whose last migration was interrupted:
// one that can't be a transaction, or that another tool ran.
func dirtyError(version uint) error {
	return fmt.Errorf("migration %d stopped half-way: compare the schema with migrations/%06[1]d_*.up.sql, "+
		"finish or undo by hand what it did, set version and dirty = false in schema_migrations, then run `api migrate`", version)
}

// open connects golang-migrate to the database. Closing what it returns ends
// the session.
func (m migrator) open(ctx context.Context, config *pgx.ConnConfig) (*migrate.Migrate, error) {
	files, err := iofs.New(m.files, ".")
	if err != nil {
		return nil, fmt.Errorf("reading migrations: %w", err)
	}
	driver, err := openDriver(ctx, m.session(config))
	if err != nil {
		return nil, &openError{err}
	}
	steps, err := migrate.NewWithInstance("iofs", files, "pgx5", driver)
	if err != nil {
		return nil, fmt.Errorf("reading migrations: %w", err)
	}
	return steps, nil
}

// session is the configuration of a session without the role's time-outs, since
// an index may take an hour to build. It has one for locks; see migrator.
func (m migrator) session(config *pgx.ConnConfig) *pgx.ConnConfig {
	config = config.Copy()
	config.RuntimeParams["statement_timeout"] = "0"
	config.RuntimeParams["idle_in_transaction_session_timeout"] = "0"
	config.RuntimeParams["lock_timeout"] = fmt.Sprintf("%dms", m.lockTimeout.Milliseconds())
	return config
}

// turnLock is the advisory lock of migrators, "rides" in ASCII.
const turnLock = 0x7269646573

// takeTurn returns a connection that holds the migrators' lock until it is
// closed. It polls instead of waiting in the server: a session that waits for a
// lock holds a snapshot, and CREATE INDEX CONCURRENTLY of the migrator whose
// turn it is would wait for the end of that snapshot (golang-migrate, issue
// 960).
func (m migrator) takeTurn(ctx context.Context, config *pgx.ConnConfig) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, m.session(config))
	if err != nil {
		return nil, &openError{err}
	}
	for try := 1; ; try++ {
		var mine bool
		err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, int64(turnLock)).Scan(&mine)
		if err == nil && mine {
			return conn, nil
		}
		if err == nil && try == 1 {
			m.logger.InfoContext(ctx, "waiting for another migrator, whose turn it is")
		}
		if err == nil {
			err = pause.For(ctx, 100*time.Millisecond)
		}
		if err != nil {
			closeConn(ctx, conn)
			return nil, fmt.Errorf("waiting for another migrator: %w", err)
		}
	}
}

func isCode(err error, code string) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pgErr.Code == code
}

// closeConn ends the session in order, also if ctx has ended.
func closeConn(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	_ = conn.Close(ctx)
}
