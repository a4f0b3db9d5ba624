package postgres

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
)

// A limit is a time-out that every session needs. Limits are settings of the
// role and not of the connection string, because a transaction pooler does not
// pass those on, and SET LOCAL does not reach the workers of Citus.
type limit struct {
	name  string
	value string
	of    func(session) string
}

// limits are much longer than a healthy statement takes. All but the last are
// shorter than the default lease.
//
//nolint:gochecknoglobals // a table that nothing writes to
var limits = []limit{
	{"statement_timeout", "10s", func(s session) string { return s.StatementTimeout }},
	{"lock_timeout", "2s", func(s session) string { return s.LockTimeout }},
	{"idle_in_transaction_session_timeout", "30s", func(s session) string { return s.IdleInTransaction }},
}

// SetTimeouts gives the role of conn the time-outs that Open demands, in the
// named database, which need not be the one that conn is connected to. They
// apply to later sessions and replace those that the role has. A role needs no
// privilege to change its own settings.
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

// setMissingTimeouts sets the time-outs that a new session lacks. It keeps
// those that an operator set for the role, the database or the server.
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
