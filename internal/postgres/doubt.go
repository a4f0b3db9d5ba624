package postgres

import (
	"context"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// doubtKey is where a connection remembers a commit in doubt.
const doubtKey = "rocketrides.commit-in-doubt"

// TookDoubtfulCommit reports whether the server warned, since the last call for
// this connection, that a commit may not be durable yet, and forgets it.
//
// With a synchronous standby, COMMIT waits until the standby has it. When that
// wait is cancelled (by an operator, or by statement_timeout) the server
// reports success together with a WARNING of SQLSTATE 01000 (Postgres,
// src/backend/replication/syncrep.c): the transaction is committed here and may
// be lost in a fail-over. Whoever sees true must have another write committed
// without such a warning before it charges a card or answers a client.
//
// Any warning of that class counts, not only the one of syncrep.c: its text is
// translated, Citus relays it from elsewhere, and a false alarm costs one
// write. A connection that Open's pool didn't make never reports a doubt. Like
// the connection itself, it is not for concurrent use.
func TookDoubtfulCommit(conn *pgx.Conn) bool {
	custom := conn.PgConn().CustomData()
	_, took := custom[doubtKey]
	delete(custom, doubtKey)
	return took
}

// noticeDoubt runs while the connection is being read, on the goroutine that
// uses it, so the map needs no lock.
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
