package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// RiverSchema is the schema of River's tables. They belong to River, which
// brings its own migrations, so they stay apart from ours.
const RiverSchema = "river"

// migrateRiver brings River's tables up to date. The caller holds the
// migrators' turn. Each of River's migrations is one transaction.
func (m migrator) migrateRiver(ctx context.Context, config *pgx.ConnConfig) error {
	settings, err := pgxpool.ParseConfig(config.ConnString())
	if err != nil {
		return fmt.Errorf("migrating River: %w", err)
	}
	settings.ConnConfig, settings.MaxConns = m.session(config), 1
	settings.MinConns, settings.MinIdleConns = 0, 0 // the URL may ask for more than one
	pool, err := pgxpool.NewWithConfig(ctx, settings)
	if err != nil {
		return fmt.Errorf("migrating River: %w", err)
	}
	defer pool.Close()
	if err := makeRiverSchema(ctx, pool); err != nil {
		return err
	}
	river, err := newRiverMigrator(pool)
	if err != nil {
		return err
	}
	wanted, err := RiverVersion()
	if err != nil {
		return err
	}
	before, err := riverVersion(ctx, pool)
	if err != nil && !isCode(err, pgerrcode.UndefinedTable) {
		return fmt.Errorf("reading the version of River's schema: %w", err)
	}
	if before >= wanted {
		return nil
	}
	if _, err := river.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return fmt.Errorf("migrating River: %w", err)
	}
	m.logger.InfoContext(ctx, "River's schema is up to date", slog.Int("before", before), slog.Int("version", wanted))
	return nil
}

// makeRiverSchema makes the schema if there is none. A role that owns only its
// own schemas can't: whoever made the role makes this one too.
func makeRiverSchema(ctx context.Context, pool *pgxpool.Pool) error {
	var there bool
	if err := pool.QueryRow(ctx, `SELECT to_regnamespace($1) IS NOT NULL`, RiverSchema).Scan(&there); err != nil {
		return fmt.Errorf("looking for River's schema: %w", err)
	}
	if there {
		return nil
	}
	_, err := pool.Exec(ctx, `CREATE SCHEMA `+RiverSchema)
	if isCode(err, pgerrcode.InsufficientPrivilege) {
		return fmt.Errorf("the role may not make the schema %s, which deferred work needs; have a superuser run CREATE SCHEMA %[1]s AUTHORIZATION %s in this database, then run `api migrate` again",
			RiverSchema, pgx.Identifier{pool.Config().ConnConfig.User}.Sanitize())
	}
	if err != nil {
		return fmt.Errorf("making River's schema: %w", err)
	}
	return nil
}

func newRiverMigrator(pool *pgxpool.Pool) (*rivermigrate.Migrator[pgx.Tx], error) {
	river, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{
		Schema: RiverSchema,
		Logger: slog.New(slog.DiscardHandler), // what matters is in the error
	})
	if err != nil {
		return nil, fmt.Errorf("reading River's migrations: %w", err)
	}
	return river, nil
}

// riverVersion reads the version of River's schema.
func riverVersion(ctx context.Context, pool *pgxpool.Pool) (int, error) {
	var version int
	err := pool.QueryRow(ctx, `SELECT coalesce(max(version), 0) FROM `+RiverSchema+`.river_migration`).Scan(&version)
	return version, err
}

// RiverVersion returns the version of River's schema that this binary needs.
func RiverVersion() (int, error) {
	river, err := newRiverMigrator(nil)
	if err != nil {
		return 0, err
	}
	all := river.AllVersions()
	return all[len(all)-1].Version, nil
}

// checkRiver returns an error if River's schema is missing or too old.
func checkRiver(ctx context.Context, pool *pgxpool.Pool) error {
	wanted, err := RiverVersion()
	if err != nil {
		return err
	}
	version, err := riverVersion(ctx, pool)
	switch {
	case isCode(err, pgerrcode.UndefinedTable):
		return errors.New("the database has no tables of River's yet; run `api migrate`")
	case err != nil:
		return fmt.Errorf("reading the version of River's schema: %w", err)
	case version < wanted:
		return fmt.Errorf("the database's schema of River is version %d and this binary needs %d; run `api migrate`", version, wanted)
	}
	return nil
}
