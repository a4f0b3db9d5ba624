package phases

import (
	"context"
	"errors"
	"fmt"
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
	queue   []statement
	known   []any

	// guard is the statement that goes first.
	guard statement
	// now is the database's clock at the guard.
	now time.Time

	conn   *pgxpool.Conn
	opened bool
	// broken is what the server or the wire said, when a statement failed.
	broken *failure
}

// A failure is where and how a pipeline failed.
type failure struct {
	statement statement
	err       error
	// committing tells that COMMIT was in the pipeline, so the server may have
	// executed it whatever became of the answer.
	committing bool
	// last tells that the failed statement is COMMIT itself.
	last bool
	// unsent tells that there was no connection to send on.
	unsent bool
}

// Queue adds a statement to the transaction. It isn't sent before the phase has
// decided, so it has no result and no error; one that fails aborts the whole
// transaction. The statement must name the key's account.
func (tx *Tx) Queue(sql string, args ...any) {
	tx.queue = append(tx.queue, statement{sql: sql, args: args})
}

// QueueOnce adds a statement that succeeds only once in a key's life. When it
// violates a unique constraint, the key has lived before and was reaped: the
// request is refused with ErrKeyExpired, for ever.
func (tx *Tx) QueueOnce(sql string, args ...any) {
	tx.queue = append(tx.queue, statement{sql: sql, args: args, once: true})
}

// QueryRow returns a row to scan. Scan sends what is queued so far with the
// query behind it, and so pays a round trip; a phase that can do without
// reading does. Scan returns pgx.ErrNoRows where there is no row.
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
	var none bool
	query := statement{sql: r.sql, args: r.args, scan: func(found pgx.Row) error {
		err := found.Scan(dest...)
		none = errors.Is(err, pgx.ErrNoRows)
		if none {
			return nil
		}
		return err
	}}
	if err := r.tx.send(query); err != nil {
		return err
	}
	if none {
		return pgx.ErrNoRows
	}
	return nil
}

// Know tells the phases that follow in this attempt about a row that this
// transaction writes, so that they need not read it. It is never needed for
// correctness: after a crash they read.
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

// send sends what is queued, and more behind it, in one pipeline; the first
// time with BEGIN and the guard before it.
func (tx *Tx) send(more ...statement) error {
	batch := tx.queue
	tx.queue = nil
	if !tx.opened {
		if err := tx.acquire(); err != nil {
			return err
		}
		tx.opened = true
		batch = append([]statement{{sql: begin}, tx.guard}, batch...)
	}
	return tx.pipeline(append(batch, more...))
}

func (tx *Tx) acquire() error {
	conn, err := tx.attempt.engine.acquire(tx.ctx)
	if err != nil {
		tx.broken = &failure{err: err, unsent: true}
		return err
	}
	tx.conn = conn
	return nil
}

// pipeline sends a batch in one round trip, and keeps what failed in tx.broken.
func (tx *Tx) pipeline(batch []statement) error {
	var queued pgx.Batch
	for _, s := range batch {
		queued.Queue(s.sql, s.args...)
	}
	committing := batch[len(batch)-1].sql == commit
	results := tx.conn.SendBatch(tx.ctx, &queued)
	for i, s := range batch {
		if err := readResult(results, s); err != nil {
			_ = results.Close() // it repeats err
			tx.broken = &failure{statement: s, err: err, committing: committing, last: committing && i == len(batch)-1}
			return err
		}
	}
	if err := results.Close(); err != nil && !committing {
		// After COMMIT was acknowledged nothing can take it back.
		tx.broken = &failure{err: err}
		return err
	}
	return nil
}

func readResult(results pgx.BatchResults, s statement) error {
	if s.scan != nil {
		return s.scan(results.QueryRow())
	}
	tag, err := results.Exec()
	if err != nil {
		return err
	}
	if s.sql == commit && tag.String() != commit {
		return fmt.Errorf("COMMIT was answered with %s", tag.String())
	}
	return nil
}

// close gives the connection back. A failed transaction is still open on it:
// without ROLLBACK the pool would throw the connection away.
func (tx *Tx) close() {
	if tx.conn == nil {
		return
	}
	if raw := tx.conn.Conn().PgConn(); !raw.IsClosed() && raw.TxStatus() != 'I' {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tx.ctx), rollbackTimeout)
		defer cancel()
		// A connection on which even this fails is thrown away by the pool.
		_, _ = tx.conn.Exec(ctx, "ROLLBACK")
	}
	tx.conn.Release()
}
