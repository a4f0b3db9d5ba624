package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
)

// checkPooler refuses a pooler between conn and the server that would break the
// statements of this program.
func checkPooler(ctx context.Context, conn *pgx.Conn) error {
	if err := checkTransactions(ctx, conn); err != nil {
		return err
	}
	return checkPreparedStatements(ctx, conn)
}

// checkTransactions refuses a pooler in statement mode, which gives each
// statement to any server connection that is free: a phase would no longer be
// all or nothing. PgBouncer refuses BEGIN in that mode; behind a pooler that
// accepts it, the next statement runs outside of a transaction.
func checkTransactions(ctx context.Context, conn *pgx.Conn) error {
	const why = "BEGIN and COMMIT don't reach the same server connection; set the pooler to transaction or session mode"
	if _, err := conn.Exec(ctx, "BEGIN"); err != nil {
		return refuse(why+" (%w)", err)
	}
	if _, err := conn.Exec(ctx, "SELECT 1"); err != nil {
		return fmt.Errorf("trying a transaction: %w", err)
	}
	if conn.PgConn().TxStatus() != 'T' {
		return refuse(why)
	}
	if _, err := conn.Exec(ctx, "COMMIT"); err != nil {
		return fmt.Errorf("trying a transaction: %w", err)
	}
	return nil
}

// statementsTimeout bounds the wait for a second server connection.
const statementsTimeout = 3 * time.Second

// checkPreparedStatements refuses a pooler in transaction mode that doesn't keep
// prepared statements for its clients. They belong to a server connection, and
// the next transaction of the client may get another one: statements would fail
// now and then, and only under load.
func checkPreparedStatements(ctx context.Context, conn *pgx.Conn) error {
	switch conn.Config().DefaultQueryExecMode {
	case pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol:
		return nil // nothing is prepared
	default:
	}
	// A new statement, which no server connection knows from before.
	statement := "SELECT $1::int -- " + rand.Text()
	// The second time finds a pooler that uses its server connections in turn.
	for range 2 {
		if err := useStatement(ctx, conn, statement); err != nil {
			return err
		}
	}
	return useStatementElsewhere(ctx, conn, statement)
}

// useStatementElsewhere uses a statement while another client occupies the
// server connection that was used last. If the pooler has no other one, nothing
// can be found out, and conn is closed.
func useStatementElsewhere(ctx context.Context, conn *pgx.Conn, statement string) error {
	other, err := pgx.ConnectConfig(ctx, conn.Config())
	if err != nil {
		return fmt.Errorf("trying prepared statements: %w", err)
	}
	defer closeConn(ctx, other)
	if _, err := other.Exec(ctx, "BEGIN"); err != nil {
		return fmt.Errorf("trying prepared statements: %w", err)
	}
	waiting, cancel := context.WithTimeout(ctx, statementsTimeout)
	defer cancel()
	if err = useStatement(waiting, conn, statement); waiting.Err() != nil && ctx.Err() == nil {
		err = nil
	}
	_, endErr := other.Exec(ctx, "ROLLBACK")
	return errors.Join(err, endErr)
}

// useStatement runs a statement in the way that conn is configured for.
func useStatement(ctx context.Context, conn *pgx.Conn, statement string) error {
	var one int
	err := conn.QueryRow(ctx, statement, 1).Scan(&one)
	switch {
	case isCode(err, pgerrcode.InvalidSQLStatementName), isCode(err, pgerrcode.DuplicatePreparedStatement),
		isCode(err, pgerrcode.ProtocolViolation):
		return refuse("prepared statements get lost on the way to the server, as they do in a pooler in transaction mode; "+
			"add default_query_exec_mode=exec to the database URL (%w)", err)
	case err != nil:
		return fmt.Errorf("trying prepared statements: %w", err)
	}
	return nil
}
