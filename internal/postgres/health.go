package postgres

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Health reports whether the database of a pool can serve. It observes the
// pool's statements if it is in the pool's Options. The zero value is ready to
// use, also concurrently.
type Health struct {
	// refused counts the writes that failed because the disk is full or the
	// database is read-only.
	refused atomic.Int64

	mu sync.Mutex
	// accepted is refused as it was before the last write of tryWrite that
	// succeeded: a later failure than that means doubt.
	accepted int64
	tried    time.Time
	err      error // of the last try
}

// tryEvery is the shortest time between two writes that only try whether
// writing works.
const tryEvery = time.Second

// observe notices an error that the server sent. It reports whether the
// connection can be used again. A server that is read-only was probably
// demoted; a new connection may lead to its successor.
func (h *Health) observe(err *pgconn.PgError) (usable bool) {
	readOnly := err.Code == pgerrcode.ReadOnlySQLTransaction
	if h != nil && (readOnly || err.Code == pgerrcode.DiskFull) {
		h.refused.Add(1)
	}
	return !readOnly
}

// Check returns an error, which an operator can read, unless the schema is that
// of this binary or newer and the database can be written to. After a write
// that failed for lack of space or because the database is read-only, Check
// itself tries to write, at most once a second, and changes nothing by that.
func (h *Health) Check(ctx context.Context, pool *pgxpool.Pool) error {
	if err := CheckSchema(ctx, pool); err != nil {
		return err
	}
	if err := checkWritable(ctx, pool); err != nil {
		return err
	}
	return h.checkWrites(ctx, pool)
}

func checkWritable(ctx context.Context, pool *pgxpool.Pool) error {
	var standby, readOnly bool
	err := pool.QueryRow(ctx, `SELECT pg_is_in_recovery(), current_setting('transaction_read_only')::boolean`).
		Scan(&standby, &readOnly)
	switch {
	case err != nil:
		return fmt.Errorf("asking whether the database is writable: %w", err)
	case standby:
		err = errors.New("the database is a standby and takes no writes")
	case readOnly:
		err = errors.New("the database is read-only")
	default:
		return nil
	}
	// The other connections lead to the same server.
	pool.Reset()
	return err
}

func (h *Health) checkWrites(ctx context.Context, pool *pgxpool.Pool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	refused := h.refused.Load()
	if refused == h.accepted {
		return nil
	}
	if time.Since(h.tried) < tryEvery {
		return h.err
	}
	h.err = tryWrite(ctx, pool)
	h.tried = time.Now()
	if h.err == nil {
		h.accepted = refused
	}
	return h.err
}

// tryWrite writes an audit record and rolls it back. The record is so large,
// and so hard to compress, that its table has to grow.
func tryWrite(ctx context.Context, pool *pgxpool.Pool) error {
	filler := make([]byte, 48<<10)
	_, _ = rand.Read(filler) // it never fails
	tx, err := pool.Begin(ctx)
	if err != nil {
		return fmt.Errorf("trying to write: %w", err)
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO audit_records (account_id, id, action, data)
		VALUES ('', $1, 'write.tried', to_jsonb($2::text))`,
		"aud_"+uuid.Must(uuid.NewV7()).String(), base64.StdEncoding.EncodeToString(filler))
	_ = tx.Rollback(ctx) // an error closes the connection, which rolls back as well
	if err != nil {
		return fmt.Errorf("the last write failed, and another one too: %w", err)
	}
	return nil
}
