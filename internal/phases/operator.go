package phases

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Keys lists, shows, parks and retries keys, for the people who run the
// service. It needs no flow: only an Engine carries keys on.
type Keys struct {
	Pool *pgxpool.Pool
}

// A Record is a key as an operator sees it.
type Record struct {
	Account       string     `json:"account_id"`
	Key           string     `json:"key"`
	Flow          string     `json:"flow"`
	Version       int        `json:"flow_version"`
	Realm         string     `json:"realm"`
	RequestID     string     `json:"request_id"`
	Method        string     `json:"method"`
	Path          string     `json:"path"`
	Params        string     `json:"params,omitempty"`
	Trace         string     `json:"trace,omitempty"`
	Async         bool       `json:"async"`
	RecoveryPoint string     `json:"recovery_point"`
	ForeignKey    string     `json:"foreign_key,omitempty"`
	ForeignForm   string     `json:"foreign_form,omitempty"`
	ForeignRef    string     `json:"foreign_ref,omitempty"`
	FirstSentAt   *time.Time `json:"first_sent_at,omitempty"`
	FindReason    string     `json:"find_reason,omitempty"`
	FindUntil     *time.Time `json:"find_until,omitempty"`
	Leased        bool       `json:"leased"`
	LeaseEpoch    int64      `json:"lease_epoch"`
	ClaimedAt     *time.Time `json:"claimed_at,omitempty"`
	LeasedUntil   *time.Time `json:"leased_until,omitempty"`
	// Calling means that a worker may still be calling, also one that holds the
	// key no more.
	Calling      bool       `json:"calling"`
	CallingUntil *time.Time `json:"calling_until,omitempty"`
	Attempts     int        `json:"attempts"`
	Failures     int        `json:"failures"`
	RunAfter     time.Time  `json:"run_after"`
	LastError    string     `json:"last_error,omitempty"`
	ParkedReason string     `json:"parked_reason,omitempty"`
	Status       int        `json:"response_status,omitempty"`
	CreatedAt    time.Time  `json:"created_at"`
	FinishedAt   *time.Time `json:"finished_at,omitempty"`
	ReapedAt     *time.Time `json:"reaped_at,omitempty"`
}

// record returns the row as an operator sees it.
func (r *reading) record() Record {
	return Record{
		Account: r.account, Key: r.key, Flow: r.flow, Version: r.version, Realm: r.realm, RequestID: r.requestID,
		Method: r.method, Path: r.path, Params: r.params, Trace: orZero(r.trace), Async: r.async, RecoveryPoint: r.point,
		ForeignKey: orZero(r.foreignKey), ForeignForm: orZero(r.foreignForm), ForeignRef: orZero(r.foreignRef),
		FirstSentAt: r.firstSentAt, FindReason: orZero(r.findReason), FindUntil: r.findUntil,
		Leased: r.leased(), LeaseEpoch: r.epoch, ClaimedAt: r.claimedAt, LeasedUntil: r.leasedUntil,
		Calling: r.calling(), CallingUntil: r.callingUntil,
		Attempts: r.attempts, Failures: r.failures, RunAfter: r.runAfter,
		LastError: orZero(r.lastError), ParkedReason: orZero(r.parkedReason), Status: orZero(r.responseStatus),
		CreatedAt: r.createdAt, FinishedAt: r.finishedAt, ReapedAt: r.reapedAt,
	}
}

// Errors of the operator's methods: the reasons why nothing was changed.
var (
	// ErrNotParked: only a parked key can be resolved.
	ErrNotParked = errors.New("the key is not parked")
	// ErrStillCalling: the last worker may still be calling.
	ErrStillCalling = errors.New("the last worker may still be calling")
	// ErrFinished: the key has its answer, which stays as it is.
	ErrFinished = errors.New("the key is finished already")
	// ErrParkedAlready: only a key that isn't parked can be parked.
	ErrParkedAlready = errors.New("the key is parked already")
	// ErrChanged: the key has changed since the operator saw it.
	ErrChanged = errors.New("the key was changed in the meantime; look at it again")
	// ErrNoCall: no foreign call is next for the key.
	ErrNoCall = errors.New("the key does not stand before a foreign call; retry it instead")
)

// Filter selects keys for List. The zero value selects all.
type Filter struct {
	Account    string
	Parked     bool
	Unfinished bool
	// Reason is what a key is parked for.
	Reason string
	// OlderThan is the least age of a key.
	OlderThan time.Duration
	// Limit is the most keys that are returned; 0 means 1,000.
	Limit int
}

// unfinishedKeys are all keys without an answer, in two parts, because each has
// an index and both together have none.
const unfinishedKeys = `(
		  SELECT ` + columns + ` FROM idempotency_keys WHERE finished_at IS NULL AND parked_reason IS NULL
		  UNION ALL
		  SELECT ` + columns + ` FROM idempotency_keys WHERE parked_reason IS NOT NULL) AS unfinished`

// List returns keys, the oldest first.
func (k Keys) List(ctx context.Context, filter Filter) ([]Record, error) {
	if filter.Limit == 0 {
		filter.Limit = 1000
	}
	from := `idempotency_keys`
	if filter.Unfinished {
		from = unfinishedKeys
	}
	return k.records(ctx, `
		SELECT `+columns+`, now()
		FROM `+from+`
		WHERE ($1 = '' OR account_id = $1)
		  AND (NOT $2 OR parked_reason IS NOT NULL)
		  AND created_at <= now() - $3 * interval '1 second'
		  AND ($5 = '' OR parked_reason = $5)
		ORDER BY created_at, account_id, key
		LIMIT $4`,
		filter.Account, filter.Parked, filter.OlderThan.Seconds(), filter.Limit, filter.Reason)
}

// Show returns the key of every account that has it, or that of one account if
// account isn't empty.
func (k Keys) Show(ctx context.Context, account, key string) ([]Record, error) {
	if account != "" {
		return k.records(ctx, keyByID, account, key)
	}
	return k.records(ctx, `
		SELECT `+columns+`, now()
		FROM idempotency_keys
		WHERE key = $1
		ORDER BY account_id
		LIMIT 100`,
		key)
}

func (k Keys) records(ctx context.Context, sql string, args ...any) ([]Record, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	rows, err := k.Pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("listing keys: %w", unavailable(err))
	}
	found, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (Record, error) {
		var one reading
		err := r.Scan(append(one.targets(), &one.now)...)
		return one.record(), err
	})
	if err != nil {
		return nil, fmt.Errorf("listing keys: %w", unavailable(err))
	}
	return found, nil
}

// Retry makes an unfinished key due, with its failures forgotten; a parked key
// is unparked. A worker that holds the key is fenced. The ends of its lease and
// of its call stay, as in Park, so that parking and retrying don't lead to a
// decision while that worker may still be calling. seen is the key as the
// operator saw it.
func (k Keys) Retry(ctx context.Context, seen Record, by string) error {
	return k.change(ctx, seen, "key.retried", map[string]string{"by": by, "was": seen.ParkedReason}, `
		UPDATE idempotency_keys
		SET parked_reason = NULL, failures = 0, run_after = now(), lease_token = NULL, lease_epoch = lease_epoch + 1
		WHERE account_id = $1 AND key = $2 AND lease_epoch = $3 AND finished_at IS NULL`)
}

// reasonOperator parks a key because a person wants it.
const reasonOperator = "operator"

// Park stops an unfinished key until a person decides. It clears the token, but
// the ends of the lease and of the call stay: until then the worker that it
// stops may still be calling, and Resolve refuses.
func (k Keys) Park(ctx context.Context, seen Record, by string) error {
	return k.change(ctx, seen, "key.parked", map[string]string{"by": by, "reason": reasonOperator}, `
		UPDATE idempotency_keys
		SET parked_reason = '`+reasonOperator+`', lease_token = NULL, lease_epoch = lease_epoch + 1
		WHERE account_id = $1 AND key = $2 AND lease_epoch = $3 AND finished_at IS NULL AND parked_reason IS NULL`)
}

// change runs one guarded UPDATE of a key and its audit record in one
// transaction. If it returns ErrUnavailable, nobody knows whether that has
// committed.
func (k Keys) change(ctx context.Context, seen Record, action string, data map[string]string, update string) error {
	switch {
	case seen.FinishedAt != nil:
		return ErrFinished
	case action == "key.parked" && seen.ParkedReason != "":
		return ErrParkedAlready
	}
	data["key"], data["recovery_point"] = seen.Key, seen.RecoveryPoint
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	err := pgx.BeginTxFunc(ctx, k.Pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, update, seen.Account, seen.Key, seen.LeaseEpoch)
		if err != nil {
			return fmt.Errorf("changing key: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return ErrChanged
		}
		record := auditRecord(seen.Account, action, data)
		if _, err := tx.Exec(ctx, record.sql, record.args...); err != nil {
			return fmt.Errorf("inserting audit record: %w", err)
		}
		return nil
	})
	if err == nil || errors.Is(err, ErrChanged) {
		return err
	}
	return unavailable(err)
}

// Knows reports whether this process knows the flow, the version and the realm
// of a key, so that it can carry the key on.
func (e *Engine) Knows(seen Record) bool {
	_, ok := e.flow(seen.Flow, seen.Version, seen.Realm)
	return ok
}

// Resolve ends a parked key as a person decided, once nobody may still be
// sending for it. An attempt may still be looking it up, for minutes: that
// sends nothing, and the fence shuts out what it finds.
//
// decide is the phase that carries the decision out. If it advances, the flow
// goes on behind it in the same transaction, up to its next foreign call. That
// one is the completer's: the result is Pending then. The audit record says who
// decided what.
func (e *Engine) Resolve(ctx context.Context, seen Record, by, decision string, decide AtomicFunc) (Result, error) {
	flow, ok := e.flow(seen.Flow, seen.Version, seen.Realm)
	switch {
	case !ok:
		return Result{}, ErrUnknownVersion
	case seen.ParkedReason == "":
		return Result{}, ErrNotParked
	case seen.Calling:
		return Result{}, ErrStillCalling
	}
	next, err := flow.after(seen.RecoveryPoint)
	if err != nil {
		return Result{}, err
	}
	a := &attempt{
		engine: e, flow: flow, realm: seen.Realm, entry: entryUnpark, token: uuid.NewString(), epoch: seen.LeaseEpoch, fused: true,
		key: Key{
			Account: seen.Account, Key: seen.Key, RequestID: seen.RequestID, Params: seen.Params,
			Trace: seen.Trace, Async: seen.Async, RecoveryPoint: seen.RecoveryPoint, CreatedAt: seen.CreatedAt, Attempts: seen.Attempts,
		},
	}
	end, err := a.runPhase(ctx, Atomic(next.point, func(tx *Tx, key Key) (Outcome, error) {
		tx.audit("key.resolved", map[string]string{"by": by, "decision": decision})
		return decide(tx, key)
	}))
	if errors.Is(err, errFenced) {
		return Result{}, ErrChanged
	}
	if err == nil && !end.final() {
		// If even this fails, the lease must run out.
		_, _ = a.transact(ctx, func(*Tx) (*ending, error) {
			return &ending{kind: endReleased, reason: "resolved", neverSent: true}, nil
		})
		return Result{Pending: true, Key: a.key}, nil
	}
	return a.result(ctx, end, err)
}

// ResolveResult ends a parked key with a result of its foreign call that a
// person vouches for, as if the call itself had returned it.
func (e *Engine) ResolveResult(ctx context.Context, seen Record, by, decision string, result any) (Result, error) {
	flow, ok := e.flow(seen.Flow, seen.Version, seen.Realm)
	if !ok {
		return Result{}, ErrUnknownVersion
	}
	next, err := flow.after(seen.RecoveryPoint)
	if err != nil || next.foreign == nil || seen.ForeignForm == "" {
		return Result{}, errors.Join(ErrNoCall, err)
	}
	return e.Resolve(ctx, seen, by, decision, func(tx *Tx, key Key) (Outcome, error) {
		return next.foreign.record(tx, key, seen.ForeignForm, result)
	})
}
