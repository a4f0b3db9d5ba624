package commands

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/postgres"
)

// databaseFlags are the flags of every command that uses the database.
type databaseFlags struct {
	DatabaseURL string `help:"Postgres, as a URL or a libpq keyword string." required:"" env:"DATABASE_URL" secret:"" placeholder:"URL"`
}

// openPool opens the database, and returns an error when its schema is too old.
// It takes the URL of the options from the flags, and prefixes ApplicationName
// with "rocketrides-".
func (f databaseFlags) openPool(ctx context.Context, o postgres.Options) (*pgxpool.Pool, error) {
	o.URL, o.ApplicationName = f.DatabaseURL, "rocketrides-"+o.ApplicationName
	pool, err := postgres.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	if err := postgres.CheckSchema(ctx, pool); err != nil {
		pool.Close()
		return nil, err
	}
	return pool, nil
}

// operatorConnections are enough for a command that does one thing.
const operatorConnections = 2

// withPool opens the database for a command that does one thing, calls use, and
// closes it.
func (f databaseFlags) withPool(ctx context.Context, name string, use func(pool *pgxpool.Pool) error) error {
	pool, err := f.openPool(ctx, postgres.Options{ApplicationName: name, MaxConns: operatorConnections})
	if err != nil {
		return err
	}
	defer pool.Close()
	return use(pool)
}
