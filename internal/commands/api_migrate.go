package commands

import (
	"context"
	"log/slog"

	"github.com/rocketrides/rocketrides/internal/cli"
	"github.com/rocketrides/rocketrides/internal/postgres"
)

type apiMigrate struct {
	databaseFlags
}

// Run brings the schema up to date.
func (c *apiMigrate) Run(ctx context.Context, log *slog.Logger) error {
	log.InfoContext(ctx, "starting", slog.String("version", cli.Version()))
	return postgres.Migrate(ctx, c.DatabaseURL, log)
}
