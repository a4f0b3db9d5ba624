package main

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/dbos-inc/dbos-transact-golang/dbos"

	"github.com/rocketrides/rocketrides/internal/cli"
)

// durable is a ride as a workflow of DBOS: a transaction, a step, a
// transaction. The application's tables are in the database of DBOS itself, so
// that a transaction and its checkpoint are one commit.
type durable struct{ peer }

// Run serves until a signal.
func (d *durable) Run(ctx context.Context, log *slog.Logger) error {
	ctx, stop := cli.UntilSignaled(ctx)
	defer stop()
	pool, err := d.open(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	app, err := dbos.NewContext(context.WithoutCancel(ctx), dbos.Config{
		AppName: "rocketrides", SystemDBPool: pool, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	source, err := dbos.NewDataSource(app, pool)
	if err != nil {
		return err
	}
	client := stripeClient()
	hail := func(flow dbos.Context, r peerRide) (peerRide, error) { return d.hail(flow, source, client, r) }
	dbos.RegisterWorkflow(app, hail, dbos.WithWorkflowName("hail"))
	if err := dbos.Launch(app); err != nil {
		return err
	}
	defer dbos.Shutdown(app, time.Second) //nolint:errcheck // the process ends
	return d.serve(ctx, log, func(_ context.Context, r peerRide) (int, error) {
		handle, err := dbos.RunWorkflow(app, hail, r, dbos.WithWorkflowID(r.Account+"/"+r.Key))
		if err != nil {
			return 0, err
		}
		_, err = handle.GetResult()
		return http.StatusCreated, err
	})
}

// hail is the workflow.
func (d *durable) hail(flow dbos.Context, source *dbos.DataSource, client *http.Client, r peerRide) (peerRide, error) {
	_, err := dbos.RunAsTransaction(flow, source, func(ctx context.Context, tx dbos.Tx) (string, error) {
		_, err := tx.Exec(ctx, `
			INSERT INTO rides (id, account_id, key, status, origin_lat, origin_lon, target_lat, target_lon, fare_amount, fare_currency)
			VALUES ($1, $2, $3, 'pending', $4, $5, $6, $7, $8, 'usd')`,
			r.ID, r.Account, r.Key, r.Origin.Lat, r.Origin.Lon, r.Target.Lat, r.Target.Lon, r.Amount)
		if err != nil {
			return "", err
		}
		_, err = tx.Exec(ctx, `INSERT INTO audit_records (account_id, action, ride_id, data) VALUES ($1, 'ride.created', $2, $3)`,
			r.Account, r.ID, r.audit())
		return "", err
	}, dbos.WithStepName("createRide"))
	if err != nil {
		return r, err
	}
	r, err = dbos.RunAsStep(flow, func(ctx context.Context) (peerRide, error) { return d.charge(ctx, client, r) }, dbos.WithStepName("charge"))
	if err != nil {
		return r, err
	}
	_, err = dbos.RunAsTransaction(flow, source, func(ctx context.Context, tx dbos.Tx) (string, error) {
		_, err := tx.Exec(ctx, `UPDATE rides SET status = 'charged', charge_id = $2, payment_intent_id = $3 WHERE id = $1`, r.ID, r.Charge, r.Intent)
		if err != nil {
			return "", err
		}
		_, err = tx.Exec(ctx, `INSERT INTO staged_jobs (kind, args) VALUES ('receipt', $1)`, r.receipt())
		return "", err
	}, dbos.WithStepName("recordCharge"))
	return r, err
}
