package postgres

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
)

// A limit is a time-out that every session of ours needs. They are settings of
// the role and not of the connection string, since a transaction pooler passes
// no settings on, and SET LOCAL doesn't reach the workers of Citus.
type limit struct {
	name  string
	value string
	of    func(session) string
}

// limits are well above what a healthy statement takes and well below a lease.
//
//nolint:gochecknoglobals // a table that nothing writes to
var limits = []limit{
	{"statement_timeout", "10s", func(s session) string { return s.StatementTimeout }},
	{"lock_timeout", "2s", func(s session) string { return s.LockTimeout }},
	{"idle_in_transaction_session_timeout", "30s", func(s session) string { return s.IdleInTransaction }},
}

// SetTimeouts gives the role of conn the time-outs that Open asks for, in the
// named database, which need not be the one that conn is connected to. They
// hold for sessions that begin afterwards. It overwrites what is there; the
// role needs no privilege to change its own settings.
func SetTimeouts(ctx context.Context, conn *pgx.Conn, database string) error {
	return setTimeouts(ctx, conn, database, limits)
}

func setTimeouts(ctx context.Context, conn *pgx.Conn, database string, limits []limit) error {
	batch := &pgx.Batch{}
	for _, limit := range limits {
		batch.Queue(fmt.Sprintf(`ALTER ROLE CURRENT_USER IN DATABASE %s SET %s = '%s'`,
			pgx.Identifier{database}.Sanitize(), limit.name, limit.value))
	}
	if err := conn.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("setting the role's time-outs: %w", err)
	}
	return nil
}

// setMissingTimeouts sets the time-outs that a plain session lacks, and leaves
// the others as an operator chose them: for the role, the database or the
// server.
func setMissingTimeouts(ctx context.Context, config *pgx.ConnConfig, logger *slog.Logger) error {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("connecting to set time-outs: %w", err)
	}
	defer closeConn(ctx, conn)

	session, err := readSession(ctx, conn)
	if err != nil {
		return err
	}
	var missing []limit
	for _, limit := range limits {
		if limit.of(session) == "0" {
			missing = append(missing, limit)
			logger.InfoContext(ctx, "setting a time-out of the role",
				slog.String("role", session.Role), slog.String("name", limit.name), slog.String("value", limit.value))
		}
	}
	return setTimeouts(ctx, conn, session.Database, missing)
}
