package phases

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// columns are those of a row, in the order of row.targets. They are always
// listed, so that this binary runs before and after a migration adds one.
const columns = `account_id, key, flow, flow_version, realm, request_id, method, path,
	request_hash, canon_version, params, recovery_point,
	foreign_key, foreign_form, foreign_ref, first_sent_at, find_reason, find_until,
	lease_token::text, lease_epoch, leased_until,
	attempts, failures, run_after, last_error, parked_reason,
	response_status, response_headers, response_body,
	created_at, finished_at, reaped_at`

// row is a key as it is stored. Key and Record are what others see of it, so
// that neither has to change when a column does.
type row struct {
	account, key    string
	flow            string
	version         int
	realm           string
	requestID       string
	method, path    string
	requestHash     []byte
	canonVersion    int
	params          string
	point           string
	foreignKey      *string
	foreignForm     *string
	foreignRef      *string
	firstSentAt     *time.Time
	findReason      *string
	findUntil       *time.Time
	token           *string
	epoch           int64
	leasedUntil     *time.Time
	attempts        int
	failures        int
	runAfter        time.Time
	lastError       *string
	parkedReason    *string
	responseStatus  *int
	responseHeaders *string
	responseBody    []byte
	createdAt       time.Time
	finishedAt      *time.Time
	reapedAt        *time.Time
}

func (r *row) targets() []any {
	return []any{
		&r.account, &r.key, &r.flow, &r.version, &r.realm, &r.requestID, &r.method, &r.path,
		&r.requestHash, &r.canonVersion, &r.params, &r.point,
		&r.foreignKey, &r.foreignForm, &r.foreignRef, &r.firstSentAt, &r.findReason, &r.findUntil,
		&r.token, &r.epoch, &r.leasedUntil,
		&r.attempts, &r.failures, &r.runAfter, &r.lastError, &r.parkedReason,
		&r.responseStatus, &r.responseHeaders, &r.responseBody,
		&r.createdAt, &r.finishedAt, &r.reapedAt,
	}
}

// A reading is a row together with the database's clock at the time when it was
// read: whether a lease has ended is never judged by another clock.
type reading struct {
	row
	now time.Time
}

func (r *reading) leased() bool { return r.leasedUntil != nil && r.leasedUntil.After(r.now) }

// read returns the key's row, or nil where there is none: one round trip, no
// transaction, no write.
func (e *Engine) read(ctx context.Context, account, key string) (*reading, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	var found reading
	err := Reread(ctx, func(ctx context.Context) error {
		conn, err := e.acquire(ctx)
		if err != nil {
			return err
		}
		defer conn.Release()
		return conn.QueryRow(ctx, `
			SELECT `+columns+`, now()
			FROM idempotency_keys
			WHERE account_id = $1 AND key = $2`,
			account, key).Scan(append(found.targets(), &found.now)...)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil //nolint:nilnil // no row is the ordinary answer for a new key, and no error
	}
	if err != nil {
		return nil, fmt.Errorf("reading key: %w", err)
	}
	return &found, nil
}

// maxRereads bounds how often a read is made again. After a restart of Postgres
// every connection of the pool is dead, and each shows it only when it is used.
const maxRereads = 5

// Reread runs a read of the database, and again when the connection was lost,
// which changes nothing. Where that goes on, the error is ErrUnavailable. The
// read's own error is returned as it is: pgx.ErrNoRows, or one of the server.
func Reread(ctx context.Context, read func(context.Context) error) error {
	for try := 1; ; try++ {
		err := read(ctx)
		if err == nil || errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		err = unavailable(err)
		pg, answered := errors.AsType[*pgconn.PgError](err)
		lost := errors.Is(err, ErrUnavailable) && !errors.Is(err, errUnsent) && (!answered || !provesAbort(pg))
		if !lost || try > maxRereads || !pause(ctx, try) {
			return err
		}
	}
}

// stealOnce claims the row as it was seen, in a commit of its own. It returns
// nil when the row isn't as it was seen any more, or is leased.
func (e *Engine) stealOnce(ctx context.Context, token string, seen *row) (*row, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	conn, err := e.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()

	var got row
	err = conn.QueryRow(ctx, stealKey,
		seen.account, seen.key, token, e.config.Lease.Seconds(), seen.epoch, seen.point).Scan(got.targets()...)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil //nolint:nilnil // losing a race is an ordinary answer, and no error
	}
	if err == nil && e.config.Unconfirmed != nil && e.config.Unconfirmed(conn.Conn()) {
		err = errUnconfirmed
	}
	return &got, err
}

// public is the row as the phases see it.
func (r *row) public() Key {
	return Key{
		Account: r.account, Key: r.key, RequestID: r.requestID, Params: r.params,
		RecoveryPoint: r.point, CreatedAt: r.createdAt, Attempts: r.attempts,
	}
}

// answer is the stored answer of a finished row.
func (r *row) answer() (Answer, error) {
	if r.finishedAt == nil || r.responseStatus == nil || r.responseHeaders == nil {
		return Answer{}, fmt.Errorf("key at %q has no answer", r.point)
	}
	answer := Answer{Status: *r.responseStatus, Body: r.responseBody}
	if err := json.Unmarshal([]byte(*r.responseHeaders), &answer.Headers); err != nil {
		return Answer{}, fmt.Errorf("decoding stored headers: %w", err)
	}
	return answer, nil
}

// encodeHeaders is the form in which an answer's headers are stored.
func encodeHeaders(headers map[string]string) (string, error) {
	if headers == nil {
		headers = map[string]string{}
	}
	encoded, err := json.Marshal(headers)
	if err != nil {
		return "", fmt.Errorf("encoding headers: %w", err)
	}
	return string(encoded), nil
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
