package phases

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Tx is the transaction of a phase. It queues statements, which travel together
// with the fence and COMMIT in one pipeline; a phase can neither commit nor
// roll it back. It must not be kept, and is not safe for concurrent use.
type Tx struct {
	ctx     context.Context //nolint:containedctx // a Tx lives for one call, as an http.Request does
	attempt *attempt
	// queue begins with room for BEGIN and the guard; see begin.
	queue []statement
	known []any

	// shares means that the transaction may share its COMMIT.
	shares bool
	// begun means that BEGIN and the guard are queued or sent.
	begun bool
	// now is the database's clock at the guard.
	now  time.Time
	conn *pgxpool.Conn
	// placed means that it has taken one of the engine's places.
	placed bool
	// failure is the first one; nothing more is sent after it.
	failure *failure
	// unconfirmed means that the transaction committed, and that the server
	// warned that its standby has not confirmed it.
	unconfirmed bool
}

// A failure is where and how a pipeline failed.
type failure struct {
	statement statement
	err       error
	// committing means that COMMIT was in the pipeline, so the server may have
	// executed it even if there was no answer.
	committing bool
	// last means that the failed statement is COMMIT itself.
	last bool
	// broken means that there was no connection to send on, or that it broke
	// before COMMIT was sent. So nothing has committed.
	broken bool
}

// Queue adds a statement to the transaction. It isn't sent before the phase has
// decided, so it has no result and no error; one that fails aborts the whole
// transaction. The statement must name the key's account. A connection keeps
// what it has prepared, so the text must be one of few: values are arguments.
func (tx *Tx) Queue(sql string, args ...any) {
	tx.queue = append(tx.queue, statement{sql: sql, args: args})
}

// QueueOnce adds a statement that inserts something unique for the key, such as
// the key's ride. If it violates a unique constraint, the key was used and
// reaped before, and the request is refused with ErrKeyExpired, for ever.
func (tx *Tx) QueueOnce(sql string, args ...any) {
	tx.queue = append(tx.queue, statement{sql: sql, args: args, once: true})
}

// QueryRow returns a row to scan. Scan sends what is queued so far and then the
// query, which costs a round trip; a phase that needn't read shouldn't. Scan
// returns pgx.ErrNoRows when there is no row.
func (tx *Tx) QueryRow(sql string, args ...any) Row {
	return Row{tx: tx, sql: sql, args: args}
}

// Row is a query that is sent when it is scanned.
type Row struct {
	tx   *Tx
	sql  string
	args []any
}

// Scan sends the query and reads its first row into dest.
func (r Row) Scan(dest ...any) error {
	none := true
	query := statement{sql: r.sql, args: r.args, scan: func(found pgx.Row) error {
		none = false
		return found.Scan(dest...)
	}}
	r.tx.begin(r.tx.attempt.stay())
	if err := r.tx.send(query); err != nil {
		return err
	}
	if none {
		return pgx.ErrNoRows
	}
	return nil
}

// Know tells the phases that follow in this attempt about a row that this
// transaction writes, so that they need not read it. Nothing depends on it:
// after a crash they read.
func Know[T any](tx *Tx, value T) {
	tx.known = append(tx.known, value)
}

// Known returns the latest value of type T that this attempt knows.
func Known[T any](tx *Tx) (T, bool) {
	for _, known := range slices.Backward(tx.known) {
		if value, ok := known.(T); ok {
			return value, true
		}
	}
	var none T
	return none, false
}

// audit queues an audit record about the key.
func (tx *Tx) audit(action string, data map[string]string) {
	key := tx.attempt.key
	data["key"], data["recovery_point"] = key.Key, key.RecoveryPoint
	tx.queue = append(tx.queue, auditRecord(key.Account, action, data))
}

// begin fills in BEGIN and the guard before what is queued, unless that was
// done. end is how the guard leaves the key.
func (tx *Tx) begin(end *ending) {
	if !tx.begun {
		tx.begun = true
		tx.queue[0], tx.queue[1] = statement{sql: sqlBegin}, tx.attempt.guard(end, &tx.now)
	}
}

// commit leaves the key as end says and sends what is queued, and COMMIT behind
// it. Mostly the guard itself can leave the key so, and the key's row is
// written once; such a transaction may share its COMMIT.
func (tx *Tx) commit(end *ending) error {
	if end.kind == endParked {
		tx.audit("key.parked", map[string]string{"reason": end.reason})
	}
	a := tx.attempt
	if end.final() {
		a.engine.keys.letGo(a.id(), a.token)
	}
	if !tx.begun && (a.entry == entryHeld || a.entry == entryInsert && end.kind == endAdvanced) {
		tx.begin(end)
		if tx.shares {
			return a.engine.gathering.commit(tx)
		}
		return tx.send(statement{sql: sqlCommit})
	}
	tx.begin(a.stay())
	tx.queue = append(tx.queue, a.write(end, &tx.now))
	return tx.send(statement{sql: sqlCommit})
}

// send sends what is queued, and last behind it, in one pipeline.
func (tx *Tx) send(last statement) error {
	if tx.failure != nil {
		return tx.failure.err
	}
	tx.queue = append(tx.queue, last)
	ctx, cancel := context.WithTimeout(tx.ctx, statementTimeout)
	defer cancel()
	if tx.conn == nil {
		if err := tx.connect(ctx); err != nil {
			tx.failure = &failure{err: err, broken: true}
			return err
		}
	}
	batch := tx.queue
	tx.queue = nil
	if tx.failure = tx.attempt.engine.sendBatch(ctx, tx.conn, batch); tx.failure != nil {
		return tx.failure.err
	}
	tx.unconfirmed = last.sql == sqlCommit && tx.attempt.engine.config.Unconfirmed(tx.conn.Conn())
	return nil
}

// connect takes a connection, and one of the places if the attempt doesn't hold
// its key yet.
func (tx *Tx) connect(ctx context.Context) error {
	e := tx.attempt.engine
	if tx.attempt.entry != entryHeld {
		if err := e.takePlace(ctx); err != nil {
			return err
		}
		tx.placed = true
	}
	var err error
	tx.conn, err = e.acquire(ctx)
	return err
}

// close releases what connect has taken.
func (tx *Tx) close() {
	if tx.conn != nil {
		giveBack(tx.ctx, tx.conn)
	}
	if tx.placed {
		tx.attempt.engine.leavePlace()
	}
}

// giveBack gives a connection back to the pool. A failed transaction is still
// open on it: without ROLLBACK the pool would throw the connection away.
func giveBack(ctx context.Context, conn *pgxpool.Conn) {
	if raw := conn.Conn().PgConn(); !raw.IsClosed() && raw.TxStatus() != 'I' {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		// A connection on which even this fails is thrown away by the pool.
		_, _ = conn.Exec(ctx, "ROLLBACK")
	}
	conn.Release()
}
