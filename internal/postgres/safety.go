package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// errUnsafeSettings means that the server, with the settings of this role in
// this database, could lose an acknowledged commit, keep a lock for ever or
// refuse to write. Each error that wraps it is a sentence that tells an
// operator what to do.
var errUnsafeSettings = errors.New("unsafe database settings")

// session is what the server says about one connection.
type session struct {
	FullPageWrites    string
	Fsync             string
	SynchronousCommit string
	StatementTimeout  string
	LockTimeout       string
	IdleInTransaction string
	ReadOnly          string
	InRecovery        bool
	Role              string
	Database          string
}

// checkSettings returns an error if the settings are unsafe. It runs for each
// new connection, in one round trip, and not only once per process, because a
// server can be reconfigured, failed over or restored while its clients run.
func checkSettings(ctx context.Context, conn *pgx.Conn) error {
	s, err := readSession(ctx, conn)
	if err != nil {
		return err
	}
	return s.check()
}

func readSession(ctx context.Context, conn *pgx.Conn) (session, error) {
	// QueryExecModeExec prepares nothing: it takes one round trip, and works
	// with every kind of pooler.
	rows, err := conn.Query(ctx, `
		SELECT current_setting('full_page_writes') AS full_page_writes,
		       current_setting('fsync') AS fsync,
		       current_setting('synchronous_commit') AS synchronous_commit,
		       current_setting('statement_timeout') AS statement_timeout,
		       current_setting('lock_timeout') AS lock_timeout,
		       current_setting('idle_in_transaction_session_timeout') AS idle_in_transaction,
		       current_setting('default_transaction_read_only') AS read_only,
		       pg_is_in_recovery() AS in_recovery,
		       current_user::text AS role,
		       current_database()::text AS database`, pgx.QueryExecModeExec)
	if err != nil {
		return session{}, fmt.Errorf("reading the session's settings: %w", err)
	}
	s, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[session])
	if err != nil {
		return session{}, fmt.Errorf("reading the session's settings: %w", err)
	}
	return s, nil
}

// check returns an error that names the first fault. Durability comes first:
// this program can't make up for its lack.
func (s session) check() error {
	switch {
	case s.Fsync == "off":
		return refuse("fsync is off, so a crash can lose rides whose cards were charged; set fsync = on in postgresql.conf")
	case s.FullPageWrites == "off":
		return refuse("full_page_writes is off, so a crash can corrupt tables; set full_page_writes = on in postgresql.conf")
	case s.SynchronousCommit == "off":
		return refuse("synchronous_commit is off, so a crash can lose rides whose cards were charged; set it to on for role %q", s.Role)
	case s.InRecovery:
		return refuse("this server is a standby and takes no writes; point the database URL at the primary")
	case s.ReadOnly == "on":
		return refuse("default_transaction_read_only is on, so nothing can be written; set it to off for role %q in database %q", s.Role, s.Database)
	}
	return s.checkTimeouts()
}

// checkTimeouts returns an error if a time-out is missing: a phase that hangs
// would keep its locks, and with them its key, for ever.
func (s session) checkTimeouts() error {
	for _, limit := range limits {
		if limit.of(s) == "0" {
			return refuse("%s is 0 for role %q in database %q, so a stuck statement would keep its locks for ever; "+
				"run `api migrate` as that role, and take %s=0 out of the database URL if it is there", limit.name, s.Role, s.Database, limit.name)
		}
	}
	return nil
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

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errUnsafeSettings}, args...)...)
}
