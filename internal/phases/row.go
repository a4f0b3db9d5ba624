package phases

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// columns are those of a row, in the order of row.targets. They are always
// listed, so that this binary runs both before and after a migration adds one.
const columns = `account_id, key, flow, flow_version, realm, request_id, method, path,
	request_hash, canon_version, params, trace, async, recovery_point,
	foreign_key, foreign_form, foreign_ref, first_sent_at, find_reason, find_until,
	lease_token::text, lease_epoch, claimed_at, leased_until, calling_until,
	attempts, failures, run_after, last_error, parked_reason,
	response_status, response_headers, response_body,
	created_at, finished_at, reaped_at`

// row is a key as it is stored. Others see it as a Key or a Record, neither of
// which has to change when a column does.
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
	trace           *string
	async           bool
	point           string
	foreignKey      *string
	foreignForm     *string
	foreignRef      *string
	firstSentAt     *time.Time
	findReason      *string
	findUntil       *time.Time
	token           *string
	epoch           int64
	claimedAt       *time.Time
	leasedUntil     *time.Time
	callingUntil    *time.Time
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
		&r.requestHash, &r.canonVersion, &r.params, &r.trace, &r.async, &r.point,
		&r.foreignKey, &r.foreignForm, &r.foreignRef, &r.firstSentAt, &r.findReason, &r.findUntil,
		&r.token, &r.epoch, &r.claimedAt, &r.leasedUntil, &r.callingUntil,
		&r.attempts, &r.failures, &r.runAfter, &r.lastError, &r.parkedReason,
		&r.responseStatus, &r.responseHeaders, &r.responseBody,
		&r.createdAt, &r.finishedAt, &r.reapedAt,
	}
}

// A reading is a row together with the database's clock at the time when it was
// read. No other clock decides whether its lease has ended.
type reading struct {
	row
	now time.Time
}

// leased reports whether the row's lease lasted when the row was read.
func (r *reading) leased() bool { return r.leasedUntil != nil && r.leasedUntil.After(r.now) }

// calling reports whether a worker may still have been calling when the row was
// read. A worker of a release that didn't know calling_until ended its calls
// within its lease.
func (r *reading) calling() bool {
	return r.leased() || r.callingUntil != nil && r.callingUntil.After(r.now)
}

// clock returns what the row says of the database's clock and of the lease of
// the attempt that holds it. watch was started before the row was read.
func (r *reading) clock(watch stopwatch) clock {
	return clock{at: r.now, watch: watch, lease: r.leasedUntil.Sub(r.now)}
}

// claimAge returns how long the row's worker had held it when it was read. That
// of a row that was never claimed again holds it since the row was made.
func (r *reading) claimAge() time.Duration {
	if r.claimedAt != nil {
		return r.now.Sub(*r.claimedAt)
	}
	return r.now.Sub(r.createdAt)
}

// keyByID selects the row of one key, and the database's time.
const keyByID = `
		SELECT ` + columns + `, now()
		FROM idempotency_keys
		WHERE account_id = $1 AND key = $2`

// readKey reads the key's row into found, which is nil if there is none. It is
// no transaction and no write.
//
// Each run needs a statement of its own, since a run that failed may have read a
// row that is gone now.
func readKey(id keyID, found **reading) statement {
	*found = nil
	return statement{
		sql:  keyByID,
		args: []any{id.account, id.key},
		scan: func(row pgx.Row) error {
			*found = new(reading)
			return row.Scan(append((*found).targets(), &(*found).now)...)
		},
	}
}

// readRows reads in one round trip.
func (e *Engine) readRows(ctx context.Context, reads ...statement) error {
	conn, err := e.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if failed := e.sendBatch(ctx, conn, reads); failed != nil {
		return fmt.Errorf("reading key: %w", failed.err)
	}
	return nil
}

// read returns the key's row, or nil if there is none.
func (e *Engine) read(ctx context.Context, id keyID) (found *reading, err error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	err = Rerun(ctx, func(ctx context.Context) error { return e.readRows(ctx, readKey(id, &found)) })
	return found, err
}

// maxReruns bounds how often a statement is run again. After a restart of
// Postgres every connection of the pool is dead, and each shows it only when it
// is used.
const maxReruns = 5

// Rerun runs a statement, and runs it again if the connection was lost. The
// first run may have committed, so the second must change nothing more. If the
// connection is lost again and again, the error is ErrUnavailable. The
// statement's own error, such as pgx.ErrNoRows or an error of the server, is
// returned as it is.
func Rerun(ctx context.Context, run func(context.Context) error) error {
	for try := 1; ; try++ {
		err := run(ctx)
		if err == nil || errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		err = unavailable(err)
		pg, answered := errors.AsType[*pgconn.PgError](err)
		lost := errors.Is(err, ErrUnavailable) && !errors.Is(err, errUnsent) && (!answered || !provesAbort(pg))
		if !lost || try > maxReruns || backOff(ctx, try) != nil {
			return err
		}
	}
}

// asKey returns the row as the phases see it.
func (r *row) asKey() Key {
	return Key{
		Account: r.account, Key: r.key, RequestID: r.requestID, Params: r.params,
		Trace: orZero(r.trace), Async: r.async, RecoveryPoint: r.point, CreatedAt: r.createdAt, Attempts: r.attempts,
	}
}

// ending returns the ending that a finished or parked row shows.
func (r *row) ending() (*ending, error) {
	switch {
	case r.reapedAt != nil:
		return &ending{kind: endExpired}, nil
	case r.finishedAt != nil:
		answer, err := r.storedAnswer()
		return &ending{kind: endFinished, answer: answer}, err
	default:
		return &ending{kind: endParked, reason: *r.parkedReason}, nil
	}
}

// storedAnswer returns the stored answer of a finished row.
func (r *row) storedAnswer() (Answer, error) {
	if r.finishedAt == nil || r.responseStatus == nil || r.responseHeaders == nil {
		return Answer{}, fmt.Errorf("key at %q has no answer", r.point)
	}
	answer := Answer{Status: *r.responseStatus, Body: r.responseBody}
	if err := json.Unmarshal([]byte(*r.responseHeaders), &answer.Headers); err != nil {
		return Answer{}, fmt.Errorf("decoding stored headers: %w", err)
	}
	return answer, nil
}

// encodeHeaders returns the form in which an answer's headers are stored.
func encodeHeaders(headers map[string]string) string {
	if headers == nil {
		headers = map[string]string{}
	}
	return encode(headers)
}

// encode returns strings as a JSON object. It is called for each answer, so it
// does without reflection.
func encode(strings map[string]string) string {
	names := slices.AppendSeq(make([]string, 0, 8), maps.Keys(strings))
	slices.Sort(names)
	text := append(make([]byte, 0, 512), '{') // on the stack
	for i, name := range names {
		if i > 0 {
			text = append(text, ',')
		}
		// The errors say that what isn't UTF-8 was replaced.
		text, _ = jsontext.AppendQuote(text, name)
		text, _ = jsontext.AppendQuote(append(text, ':'), strings[name])
	}
	return string(append(text, '}'))
}

// orZero returns what p points to, or the zero value for nil.
func orZero[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
