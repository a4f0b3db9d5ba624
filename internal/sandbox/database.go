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
// is that of DATABASE_URL, or a Postgres of our own.
func (s *sandbox) openDatabase(ctx, force context.Context) (url string, stop func(), err error) {
	if s.isOwn(s.command.DatabaseURL) {
		s.command.DatabaseURL = ""
	}
	if s.command.DatabaseURL != "" {
		s.log.printf("using the Postgres of DATABASE_URL")
		return s.command.DatabaseURL, func() {}, nil
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

// isOwn reports whether url is that of the sandbox's own Postgres, maybe at the
// address of an earlier start. A shell has it in DATABASE_URL after
// `eval "$(sandbox env)"`.
func (s *sandbox) isOwn(url string) bool {
	password, err := os.ReadFile(filepath.Join(s.data, "postgres", "password"))
	own := strings.TrimSpace(string(password))
	return err == nil && own != "" && strings.Contains(url, ":"+own+"@")
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
