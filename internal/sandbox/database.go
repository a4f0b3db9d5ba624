package sandbox

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rocketrides/rocketrides/internal/postgres/pgserver"
	"github.com/rocketrides/rocketrides/internal/process"
)

const (
	postgresName = "Postgres"

	// postgresGrace bounds a clean end of Postgres, with the checkpoint that it
	// writes.
	postgresGrace = 10 * time.Second
)

// openDatabase returns the URL of the database, and what stops it. The database
// is that of DATABASE_URL, unless it was ignored, or a Postgres of our own.
func (s *sandbox) openDatabase(ctx, force context.Context) (url string, stop func(), err error) {
	if s.command.DatabaseURL != "" {
		s.log.printf("using the Postgres of DATABASE_URL")
		return s.command.DatabaseURL, func() {}, nil
	}
	if s.command.ignored {
		s.log.printf("DATABASE_URL is what `sandbox env` printed: ignoring it; --database-url takes another sandbox's database")
	}
	if err := unsetPostgresVariables(); err != nil {
		return "", nil, fmt.Errorf("unsetting Postgres's variables: %w", err)
	}
	dir := filepath.Join(s.data, "postgres")
	s.log.printf("starting Postgres in %s", dir)
	server, err := pgserver.Start(ctx, pgserver.Config{Dir: dir, Logger: s.log.logger("postgres")})
	if err != nil {
		return "", nil, err
	}
	c := s.supervise(ctx, program{
		name:   postgresName,
		start:  func(ctx context.Context) (process.Process, error) { return pgserver.Start(ctx, server.Config()) },
		output: s.log.writer("postgres"),
		grace:  postgresGrace,
	}, server)
	return server.URL(), func() { c.stop(force) }, nil
}

// printedURL is set by the lines of the command env, to the value of their
// DATABASE_URL. A shell has both for good after `eval "$(sandbox env)"`, also
// when that sandbox has stopped.
const printedURL = "SANDBOX_DATABASE_URL"

// BeforeReset makes the sandbox ignore a DATABASE_URL that the command env has
// printed: that database belongs to a sandbox with a Stripe of its own, which
// knows nothing of payments made here. kong calls this before it reads the
// environment, so --database-url is obeyed.
func (c *run) BeforeReset() error {
	const name = "DATABASE_URL"
	if url := os.Getenv(name); url == "" || url != os.Getenv(printedURL) {
		return nil
	}
	c.ignored = true
	return os.Unsetenv(name)
}

// unsetPostgresVariables removes Postgres's variables, such as PGSERVICE and
// PGOPTIONS, from the environment: they are about another server, and would be
// used for ours.
func unsetPostgresVariables() error {
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "PG") {
			if err := os.Unsetenv(name); err != nil {
				return err
			}
		}
	}
	return nil
}
