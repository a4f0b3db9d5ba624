package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/migrations"
)

// CheckSchema returns an error if the schema is missing, older than this binary
// needs, or was left incomplete by a migration. The error is a sentence that
// says what to do. It takes two round trips.
//
// A newer schema is fine. A release only adds to the schema; what it no longer
// uses is removed a release later. So the version before runs on while the next
// one is rolled out.
func CheckSchema(ctx context.Context, pool *pgxpool.Pool) error {
	wanted, err := latestVersion(migrations.Files)
	if err != nil {
		return err
	}
	var version uint
	var dirty bool
	err = pool.QueryRow(ctx, `SELECT version, dirty FROM schema_migrations`).Scan(&version, &dirty)
	switch {
	case isCode(err, pgerrcode.UndefinedTable), errors.Is(err, pgx.ErrNoRows):
		return errors.New("the database has no schema yet; run `api migrate`")
	case err != nil:
		return fmt.Errorf("reading the schema's version: %w", err)
	case dirty:
		return dirtyError(version)
	case version < wanted:
		return fmt.Errorf("the database's schema is version %d and this binary needs %d; run `api migrate`", version, wanted)
	}
	return checkRiver(ctx, pool)
}

// latestVersion is the number of the last migration in files.
func latestVersion(files fs.FS) (uint, error) {
	source, err := iofs.New(files, ".")
	if err != nil {
		return 0, fmt.Errorf("reading migrations: %w", err)
	}
	defer func() { _ = source.Close() }()

	version, err := source.First()
	if err != nil {
		return 0, fmt.Errorf("reading migrations: %w", err)
	}
	for {
		next, err := source.Next(version)
		if errors.Is(err, os.ErrNotExist) {
			return version, nil
		}
		if err != nil {
			return 0, fmt.Errorf("reading migrations: %w", err)
		}
		version = next
	}
}

// IsDistributed reports whether the database is a Citus cluster, whose tables
// are spread over several nodes by account.
func IsDistributed(ctx context.Context, pool *pgxpool.Pool) (bool, error) {
	var distributed bool
	err := pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')`).Scan(&distributed)
	if err != nil {
		return false, fmt.Errorf("looking for Citus: %w", err)
	}
	return distributed, nil
}
