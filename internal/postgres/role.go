package postgres

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
)

// A roleSetting is a setting that every session needs. It belongs to the role
// and not to the connection string, because a transaction pooler does not pass
// that on, and SET LOCAL does not reach the workers of Citus.
type roleSetting struct {
	name  string
	value string

	// unsafe are the values that Open refuses, and that `api migrate` replaces.
	unsafe []string
	// so is what would come of them.
	so string
}

// roleSettings are what `api migrate` sets if it is missing. The time-outs are
// much longer than a healthy statement takes.
//
// Every statement of a request reads by an index, and in the index's order.
// Postgres would do something else if it takes a table, or what an account has
// in it, for tiny: read the whole table, gather rows of several indexes, sort.
// It keeps that plan while the table grows. The settings of the planner forbid
// it that where it has a choice. Where it has none, its plan looks so dear that
// it would compile it: hence no jit.
//
//nolint:gochecknoglobals // a table that nothing writes to
var roleSettings = []roleSetting{
	{"statement_timeout", "10s", []string{"0"}, stuck},
	{"lock_timeout", "2s", []string{"0"}, stuck},
	{"idle_in_transaction_session_timeout", "30s", []string{"0"}, stuck},
	{"client_min_messages", "warning", hidingWarnings, "it would not be warned that a commit may be lost"},
	{"enable_seqscan", "off", []string{"on"}, growing},
	{"enable_bitmapscan", "off", []string{"on"}, growing},
	{"enable_sort", "off", []string{"on"}, growing},
	{"jit", "off", []string{"on"}, "it would compile statements, which takes longer than they do"},
}

const (
	stuck   = "a stuck statement would keep its locks for ever"
	growing = "statements that were planned while tables were small would slow down as these grow"
)

// hidingWarnings are the values of client_min_messages with which a client gets
// no warnings. Newer versions of Postgres know only the first.
//
//nolint:gochecknoglobals // a table that nothing writes to
var hidingWarnings = []string{"error", "fatal", "panic"}

// ConfigureRole gives the role of conn the settings that Open demands, in the
// named database, which need not be the one that conn is connected to. They
// apply to later sessions and replace those that the role has. A role needs no
// privilege to change its own settings.
func ConfigureRole(ctx context.Context, conn *pgx.Conn, database string) error {
	return configureRole(ctx, conn, database, roleSettings)
}

func configureRole(ctx context.Context, conn *pgx.Conn, database string, settings []roleSetting) error {
	batch := &pgx.Batch{}
	for _, s := range settings {
		batch.Queue(fmt.Sprintf(`ALTER ROLE CURRENT_USER IN DATABASE %s SET %s = '%s'`,
			pgx.Identifier{database}.Sanitize(), s.name, s.value))
	}
	if err := conn.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("changing the role's settings: %w", err)
	}
	return nil
}

// repairRole replaces the settings with which a new session would be unsafe. It
// keeps the others that an operator set for the role, the database or the
// server.
func repairRole(ctx context.Context, config *pgx.ConnConfig, logger *slog.Logger) error {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("connecting to change the role's settings: %w", err)
	}
	defer closeConn(ctx, conn)

	session, err := readSession(ctx, conn)
	if err != nil {
		return err
	}
	var unsafe []roleSetting
	for _, s := range roleSettings {
		if session.has(s.name, s.unsafe...) {
			unsafe = append(unsafe, s)
			logger.InfoContext(ctx, "changing a setting of the role",
				slog.String("role", session.role), slog.String("name", s.name), slog.String("value", s.value))
		}
	}
	return configureRole(ctx, conn, session.database, unsafe)
}
