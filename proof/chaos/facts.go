package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
)

// facts are what the database and Stripe hold when everything has come to rest.
type facts struct {
	refused map[string]bool // accounts whose card is declined
	// customers are the ids of Stripe's customers, by account.
	customers map[string]string
	keys      map[rideKey]keyRow // of hails
	cancels   map[rideKey]keyRow
	rides     map[rideKey]rideRow
	audits    map[string]int  // records ride.created, by ride
	jobs      map[rideKey]int // receipts
	changes   []change
	sends     []fakestripe.Send
	intents   []intent
	refunds   []refund
	// unparked are the keys that an event has let go on.
	unparked map[rideKey]bool
	told     []told           // what Stripe has told
	pending  int              // deliveries that nobody has acknowledged
	inbox    map[string]inbox // events that were taken, by id
}

// key returns a key, of a hail or a cancel, and reports whether it is there.
func (f *facts) key(id rideKey) (keyRow, bool) {
	key, known := f.keys[id]
	if !known {
		key, known = f.cancels[id]
	}
	return key, known
}

// A keyRow is a row of idempotency_keys.
type keyRow struct {
	Account, Key string
	FlowVersion  int
	Point        string
	Parked       *string
	ForeignKey   *string
	FirstSentAt  *time.Time
	CreatedAt    time.Time
	FinishedAt   *time.Time
	Status       *int
	Body         []byte
	Async        bool // the request that made the key asked to respond-async
	Flow         string
	Cancels      *string // the id of the ride that the key cancels
}

func (k keyRow) id() rideKey { return rideKey{k.Account, k.Key} }

// atRest reports whether the key is finished or parked.
func (k keyRow) atRest() bool { return k.FinishedAt != nil || k.Parked != nil }

// A rideRow is a row of rides.
type rideRow struct {
	Account, Key, ID, Status string
	Fare                     int64
	Charge, Intent           *string
	CancelKey, Refund        *string
}

// A change is a row of phase_log: one committed change of a key, by one of the
// processes.
type change struct {
	Account, Key  string
	Epoch         int64
	Held, WasHeld bool // there was a token after it, and before it
	From          *string
	To            string
	Who           string
	At            time.Time
}

func (c change) id() rideKey { return rideKey{c.Account, c.Key} }

// gather reads all facts.
func (s *system) gather(ctx context.Context) (*facts, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	f := &facts{
		refused: map[string]bool{}, customers: map[string]string{}, keys: map[rideKey]keyRow{}, cancels: map[rideKey]keyRow{}, rides: map[rideKey]rideRow{},
		audits: map[string]int{}, jobs: map[rideKey]int{}, unparked: map[rideKey]bool{}, inbox: map[string]inbox{},
	}
	for _, a := range s.accounts {
		f.refused[a.id], f.customers[a.id] = a.declined, a.customer
	}
	for what, read := range map[string]func(context.Context, *pgxpool.Pool) error{
		"keys": f.readKeys, "rides": f.readRides, "audit records": f.readAudits, "jobs": f.readJobs, "changes": f.readChanges,
		"unparked keys": f.readUnparked, "events": f.readInbox,
	} {
		if err := read(ctx, s.database.pool); err != nil {
			return nil, fmt.Errorf("reading the %s: %w", what, err)
		}
	}
	var err error
	if f.sends, err = s.stripe.ledger(ctx); err != nil {
		return nil, err
	}
	if f.intents, err = listed[intent](ctx, s.stripe, "/v1/payment_intents"); err != nil {
		return nil, err
	}
	if f.refunds, err = listed[refund](ctx, s.stripe, "/v1/refunds"); err != nil {
		return nil, err
	}
	f.told, f.pending, err = s.stripe.events(ctx)
	return f, err
}

// collect reads the rows of a query into structs.
func collect[T any](ctx context.Context, pool *pgxpool.Pool, query string) ([]T, error) {
	rows, err := pool.Query(ctx, query)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[T])
}

func (f *facts) readKeys(ctx context.Context, pool *pgxpool.Pool) error {
	rows, err := collect[keyRow](ctx, pool, `
		SELECT account_id, key, flow_version, recovery_point, parked_reason, foreign_key, first_sent_at,
		       created_at, finished_at, response_status, response_body, async,
		       flow, CASE flow WHEN 'cancel' THEN params::jsonb ->> 'id' END
		FROM idempotency_keys`)
	for _, row := range rows {
		if row.Flow == "cancel" {
			f.cancels[row.id()] = row
		} else {
			f.keys[row.id()] = row
		}
	}
	return err
}

func (f *facts) readRides(ctx context.Context, pool *pgxpool.Pool) error {
	rows, err := collect[rideRow](ctx, pool, `
		SELECT account_id, key, id, status, fare_amount, charge_id, payment_intent_id, cancel_key, refund_id
		FROM rides`)
	for _, row := range rows {
		f.rides[rideKey{row.Account, row.Key}] = row
	}
	return err
}

func (f *facts) readAudits(ctx context.Context, pool *pgxpool.Pool) error {
	rows, err := collect[struct {
		Ride string
		N    int
	}](ctx, pool, `
		SELECT ride_id, count(*)
		FROM audit_records
		WHERE action = 'ride.created'
		GROUP BY ride_id`)
	for _, row := range rows {
		f.audits[row.Ride] = row.N
	}
	return err
}

func (f *facts) readJobs(ctx context.Context, pool *pgxpool.Pool) error {
	rows, err := collect[struct {
		Account, Key string
		N            int
	}](ctx, pool, `
		SELECT account_id, key, count(*)
		FROM (SELECT account_id, key, kind FROM staged_jobs
		      UNION ALL
		      SELECT args ->> 'account_id', args ->> 'key', split_part(kind, '/', 1) FROM river.river_job) jobs
		WHERE kind = 'receipt'
		GROUP BY account_id, key`)
	for _, row := range rows {
		f.jobs[rideKey{row.Account, row.Key}] = row.N
	}
	return err
}

func (f *facts) readChanges(ctx context.Context, pool *pgxpool.Pool) (err error) {
	f.changes, err = collect[change](ctx, pool, `
		SELECT account_id, key, epoch, token IS NOT NULL, old_token IS NOT NULL, from_point, to_point, writer, at
		FROM phase_log
		ORDER BY n`)
	return err
}

// changesOf groups the changes by key.
func (f *facts) changesOf() map[rideKey][]change {
	keys := map[rideKey][]change{}
	for _, c := range f.changes {
		keys[c.id()] = append(keys[c.id()], c)
	}
	return keys
}

// intentsOf groups Stripe's payment intents by their ride.
func (f *facts) intentsOf() map[string][]intent {
	rides := map[string][]intent{}
	for _, i := range f.intents {
		rides[i.Metadata["ride_id"]] = append(rides[i.Metadata["ride_id"]], i)
	}
	return rides
}

// sendsOf groups the charges that reached Stripe by their ride. An incomplete
// charge is left out: it is never executed, and may end before it names its
// ride.
func (f *facts) sendsOf() map[string][]fakestripe.Send {
	rides := map[string][]fakestripe.Send{}
	for _, s := range f.sends {
		if ride := s.Params["metadata[ride_id]"]; s.Path == "/v1/payment_intents" && !s.Incomplete {
			rides[ride] = append(rides[ride], s)
		}
	}
	return rides
}
