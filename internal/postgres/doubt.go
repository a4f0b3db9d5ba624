package postgres

import (
	"context"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// doubtKey marks a connection that has a commit in doubt.
const doubtKey = "rocketrides.commit-in-doubt"

// TookDoubtfulCommit reports whether the server has warned, since the last call
// for this connection, that a commit may not be durable yet.
//
// With a synchronous standby, COMMIT waits until the standby has it. When that
// wait is cancelled (by an operator, or by statement_timeout) the server
// reports success together with a WARNING of SQLSTATE 01000 (Postgres,
// src/backend/replication/syncrep.c): the transaction is committed here and may
// be lost in a fail-over. After true, the caller must commit another write
// without such a warning before it charges a card or answers a client.
//
// Any warning of that class counts, not only the one of syncrep.c: its text is
// translated, Citus relays it from another node, and a false alarm costs only
// one write. A connection that is not from Open's pool never reports a doubt.
// Like the connection, the function is not for concurrent use.
func TookDoubtfulCommit(conn *pgx.Conn) bool {
	custom := conn.PgConn().CustomData()
	_, took := custom[doubtKey]
	delete(custom, doubtKey)
	return took
}

// noticeDoubt returns a handler that marks the connection. The handler runs on
// the goroutine that uses the connection, so the map needs no lock.
func noticeDoubt(ctx context.Context, logger *slog.Logger) pgconn.NoticeHandler {
	return func(conn *pgconn.PgConn, notice *pgconn.Notice) {
		if notice.SeverityUnlocalized != "WARNING" || notice.Code != "01000" {
			return
		}
		conn.CustomData()[doubtKey] = true
		logger.WarnContext(ctx, "the database warned: a commit may not be durable yet",
			slog.String("message", notice.Message), slog.String("routine", notice.Routine))
	}
}
