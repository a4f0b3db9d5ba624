package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/cli"
)

// serializable is the design of the original Rocket Rides
// (github.com/brandur/rocket-rides-atomic): four SERIALIZABLE transactions for
// a ride, and Stripe is asked within the third. A transaction that can't be
// serialized is answered with 409, and the client tries again.
type serializable struct{ peer }

// Run serves until a signal.
func (s *serializable) Run(ctx context.Context, log *slog.Logger) error {
	ctx, stop := cli.UntilSignaled(ctx)
	defer stop()
	pool, err := s.open(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	client := stripeClient()
	return s.serve(ctx, log, func(ctx context.Context, r peerRide) (int, error) { return s.hail(ctx, pool, client, r) })
}

// hail runs the four transactions, each from the point that the one before has
// reached.
func (s *serializable) hail(ctx context.Context, pool *pgxpool.Pool, client *http.Client, r peerRide) (int, error) {
	var id int64
	var point string
	status := http.StatusCreated
	transact := func(run func(tx pgx.Tx) error) error {
		return pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: pgx.Serializable}, run)
	}
	err := transact(func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `SELECT id, recovery_point, coalesce(response_status, 0) FROM idempotency_keys WHERE account_id = $1 AND key = $2`,
			r.Account, r.Key).Scan(&id, &point, &status)
		if !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		point = "started"
		return tx.QueryRow(ctx, `
			INSERT INTO idempotency_keys (account_id, key, params, recovery_point, locked_at)
			VALUES ($1, $2, $3, 'started', now())
			RETURNING id`, r.Account, r.Key, rideBody).Scan(&id)
	})
	for err == nil && point != "finished" {
		err = transact(func(tx pgx.Tx) (err error) {
			point, err = s.phase(ctx, tx, client, id, point, &r)
			return err
		})
	}
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok &&
		(refused.Code == pgerrcode.SerializationFailure || refused.Code == pgerrcode.UniqueViolation) {
		_, err = pool.Exec(ctx, `UPDATE idempotency_keys SET locked_at = NULL WHERE id = $1`, id)
		return http.StatusConflict, err
	}
	if status == 0 {
		status = http.StatusCreated
	}
	return status, err
}

// phase does the work of a recovery point, and returns the next.
func (s *serializable) phase(ctx context.Context, tx pgx.Tx, client *http.Client, id int64, point string, r *peerRide) (string, error) {
	exec := func(sql string, args ...any) error {
		_, err := tx.Exec(ctx, sql, args...)
		return err
	}
	switch point {
	case "started":
		return "ride_created", errors.Join(
			exec(`INSERT INTO rides (id, account_id, key, status, origin_lat, origin_lon, target_lat, target_lon, fare_amount, fare_currency)
				VALUES ($1, $2, $3, 'pending', $4, $5, $6, $7, $8, 'usd')`,
				r.ID, r.Account, r.Key, r.Origin.Lat, r.Origin.Lon, r.Target.Lat, r.Target.Lon, r.Amount),
			exec(`INSERT INTO audit_records (account_id, action, ride_id, data) VALUES ($1, 'ride.created', $2, $3)`, r.Account, r.ID, r.audit()),
			exec(`UPDATE idempotency_keys SET recovery_point = 'ride_created' WHERE id = $1`, id))
	case "ride_created":
		err := tx.QueryRow(ctx, `SELECT id, fare_amount FROM rides WHERE account_id = $1 AND key = $2`, r.Account, r.Key).Scan(&r.ID, &r.Amount)
		if err != nil {
			return "", err
		}
		if *r, err = s.charge(ctx, client, *r); err != nil {
			return "", err
		}
		return "charge_created", errors.Join(
			exec(`UPDATE rides SET status = 'charged', charge_id = $2, payment_intent_id = $3 WHERE id = $1`, r.ID, r.Charge, r.Intent),
			exec(`UPDATE idempotency_keys SET recovery_point = 'charge_created' WHERE id = $1`, id))
	default:
		return "finished", errors.Join(
			exec(`INSERT INTO staged_jobs (kind, args) VALUES ('receipt', $1)`, r.receipt()),
			exec(`UPDATE idempotency_keys SET recovery_point = 'finished', locked_at = NULL, response_status = 201, response_body = $2 WHERE id = $1`,
				id, r.receipt()))
	}
}
