package crash

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	"github.com/jackc/pgx/v5"
)

// A snapshot is what the database holds of a trial at one moment, read in one
// transaction.
type snapshot struct {
	keys   []keyRow
	rides  []rideRow
	own    []any // rows of the flow's own tables, as values; see rowsOf
	audits []auditRow
	jobs   []jobRow
	log    []logRow
	events []eventRow
	moment int // see run.now
}

type keyRow struct {
	point, parked, foreignKey, form, token string
	epoch                                  int64
	sent, finished, reaped                 bool
	status                                 int
	body, whole                            string
}

type rideRow struct {
	id, key, status, currency, charge, intent string
	amount                                    int64
	cancelKey, refund, refundStatus           string
	refundAmount                              int64
}

type auditRow struct {
	action, ride string
	count        int
}

// An eventRow is an event in the inbox.
type eventRow struct {
	id, outcome string // outcome is "" while the event waits
}

type jobRow struct {
	kind, key, charge string
	amount            int64
}

// logRow is one line of the triggers' log.
type logRow struct {
	epoch                             int64
	token, oldToken, from, to, writer string
}

// key returns the one key of the trial, or the zero value if there is none.
func (s snapshot) key() keyRow {
	if len(s.keys) == 0 {
		return keyRow{}
	}
	return s.keys[0]
}

// ride returns the one ride of the trial, or the zero value if there is none.
func (s snapshot) ride() rideRow {
	if len(s.rides) == 0 {
		return rideRow{}
	}
	return s.rides[0]
}

// rowsOf returns the rows of one type of those of the flow's own tables.
func rowsOf[Row any](s snapshot) []Row {
	var rows []Row
	for _, row := range s.own {
		if r, ok := row.(Row); ok {
			rows = append(rows, r)
		}
	}
	return rows
}

// audited counts the audit records of an action.
func (s snapshot) audited(action string) int {
	n := 0
	for _, a := range s.audits {
		if a.action == action {
			n += a.count
		}
	}
	return n
}

// over reports whether the request is finished or parked, and no event waits.
func (s snapshot) over() bool {
	return (s.key().finished || s.key().parked != "") && !slices.ContainsFunc(s.events, func(e eventRow) bool { return e.outcome == "" })
}

// begun reports whether the request has left anything that goes on by itself.
func (s snapshot) begun() bool { return len(s.keys)+len(s.events) > 0 }

// end returns how the request stands. A status that has no word of its own is
// "answered 204".
func (s snapshot) end() end {
	k := s.key()
	switch {
	case len(s.keys) == 0:
		return "absent"
	case k.parked != "":
		return end("parked " + k.parked)
	case !k.finished:
		return pending
	case k.status == http.StatusPaymentRequired:
		return declined
	case k.status == http.StatusCreated:
		return charged
	case k.status == http.StatusOK:
		return refunded
	case k.status == http.StatusConflict:
		return refused
	default:
		return end(fmt.Sprint("answered ", k.status))
	}
}

// last returns the latest snapshot.
func (r *run) last() snapshot { return r.snapshots[len(r.snapshots)-1] }

// look takes a snapshot.
func (r *run) look(ctx context.Context) error {
	s := snapshot{moment: r.now()}
	var batch pgx.Batch
	account := r.account.AccountID
	batch.Queue(`BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY`)
	batch.Queue(`
		SELECT recovery_point, coalesce(parked_reason, ''), coalesce(foreign_key, ''), coalesce(foreign_form, ''),
		       coalesce(lease_token::text, ''), lease_epoch, first_sent_at IS NOT NULL, finished_at IS NOT NULL,
		       reaped_at IS NOT NULL, coalesce(response_status, 0), coalesce(convert_from(response_body, 'UTF8'), ''), k::text
		FROM idempotency_keys k
		WHERE account_id = $1 AND key = $2`, account, r.key).Query(func(rows pgx.Rows) (err error) {
		s.keys, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (k keyRow, err error) {
			return k, row.Scan(&k.point, &k.parked, &k.foreignKey, &k.form, &k.token, &k.epoch, &k.sent, &k.finished,
				&k.reaped, &k.status, &k.body, &k.whole)
		})
		return err
	})
	batch.Queue(`
		SELECT id, key, status, fare_amount, fare_currency, coalesce(charge_id, ''), coalesce(payment_intent_id, ''),
		       coalesce(cancel_key, ''), coalesce(refund_id, ''), coalesce(refund_status, ''), coalesce(refund_amount, 0)
		FROM rides
		WHERE account_id = $1`, account).Query(func(rows pgx.Rows) (err error) {
		s.rides, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (d rideRow, err error) {
			return d, row.Scan(&d.id, &d.key, &d.status, &d.amount, &d.currency, &d.charge, &d.intent,
				&d.cancelKey, &d.refund, &d.refundStatus, &d.refundAmount)
		})
		return err
	})
	s.queueRest(&batch, account, r.key)
	if r.flow.look != nil {
		r.flow.look(&s, &batch, account)
	}
	batch.Queue(`COMMIT`)
	if err := r.lane.pool.SendBatch(ctx, &batch).Close(); err != nil {
		return fmt.Errorf("looking at the database: %w", err)
	}
	r.snapshots = append(r.snapshots, s)
	return nil
}

// queueRest queues the queries about what belongs to a ride and its key.
func (s *snapshot) queueRest(batch *pgx.Batch, account, key string) {
	batch.Queue(`
		SELECT action, coalesce(ride_id, ''), count(*)
		FROM audit_records
		WHERE account_id = $1
		GROUP BY 1, 2`, account).Query(func(rows pgx.Rows) (err error) {
		s.audits, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (a auditRow, err error) {
			return a, row.Scan(&a.action, &a.ride, &a.count)
		})
		return err
	})
	batch.Queue(`
		SELECT kind, key, coalesce(args->>'charge_id', ''), coalesce((args->>'amount')::bigint, 0)
		FROM staged_jobs
		WHERE account_id = $1 AND key = $2`, account, key).Query(func(rows pgx.Rows) (err error) {
		s.jobs, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (j jobRow, err error) {
			return j, row.Scan(&j.kind, &j.key, &j.charge, &j.amount)
		})
		return err
	})
	batch.Queue(`
		SELECT epoch, coalesce(token::text, ''), coalesce(old_token::text, ''), coalesce(from_point, ''), to_point, writer
		FROM phase_log
		WHERE account_id = $1 AND key = $2
		ORDER BY n`, account, key).Query(func(rows pgx.Rows) (err error) {
		s.log, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (l logRow, err error) {
			return l, row.Scan(&l.epoch, &l.token, &l.oldToken, &l.from, &l.to, &l.writer)
		})
		return err
	})
	batch.Queue(`
		SELECT id, coalesce(outcome, '')
		FROM stripe_events`).Query(func(rows pgx.Rows) (err error) {
		s.events, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (e eventRow, err error) {
			return e, row.Scan(&e.id, &e.outcome)
		})
		return err
	})
}
