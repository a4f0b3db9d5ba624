package main

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/pause"
)

// A service is the api on a database of its own.
type service struct {
	system
	pool     *pgxpool.Pool // for what scenarios ask of the database
	accounts []account
	declined []account        // their card is declined
	calls    map[string]calls // of the scenarios so far
}

// accountsCount is how many accounts hail rides.
const accountsCount = 8

// startService makes a database with the schema of today, and starts the api on
// it, with more settings. If via isn't empty, the api reaches the database at
// that address. End the service at the end.
func (l *lab) startService(ctx context.Context, database, via string, settings ...string) (*service, error) {
	if err := l.migrated(ctx, database); err != nil {
		return nil, err
	}
	start := func(ctx context.Context, databaseURL string) (*program, error) {
		return l.startAPI(ctx, databaseURL, settings...)
	}
	s := &service{system: system{name: product, database: database, url: l.urlVia(database, via), start: start}, calls: map[string]calls{}}
	var err error
	if s.accounts, err = l.createAccounts(ctx, database, accountsCount, "pm_card_visa"); err != nil {
		return nil, err
	}
	if s.declined, err = l.createAccounts(ctx, database, 1, "pm_card_chargeDeclined"); err != nil {
		return nil, err
	}
	if s.service, err = start(ctx, s.url); err != nil {
		return nil, err
	}
	s.pool, err = pgxpool.New(ctx, l.url(database))
	return s, err
}

// end stops a service, so that what is measured next has the machine for itself.
func (l *lab) end(ctx context.Context, s *service) {
	s.pool.Close()
	_ = l.stop(ctx, s.service) // it is killed if it doesn't stop
}

// migrated makes a database with the schema of today.
func (l *lab) migrated(ctx context.Context, database string) error {
	if err := l.createDatabase(ctx, database); err != nil {
		return err
	}
	_, err := l.api(ctx, l.url(database), "migrate")
	return err
}

// sending returns the service under a load of calls.
func (s *service) sending(next calls) *system {
	loaded := s.system
	loaded.load = httpLoad(s.service.address, next)
	return &loaded
}

// httpLoad sends calls to an address.
func httpLoad(address string, next calls) func(context.Context, workload, *recorder) error {
	return func(ctx context.Context, w workload, r *recorder) error {
		l := load{address, next}
		if w.rate > 0 {
			l.openLoop(ctx, w.rate, r)
		} else {
			l.closedLoop(ctx, w.clients, r)
		}
		return nil
	}
}

// rest waits until nothing is at work, so that the next run begins as this one
// did, and returns how many keys are left unfinished for the completer.
func (s *service) rest(ctx context.Context) (left int, err error) {
	const patience = 10 * time.Second
	for start := time.Now(); ; {
		err := s.pool.QueryRow(ctx, `SELECT count(*) FROM idempotency_keys WHERE finished_at IS NULL AND parked_reason IS NULL`).Scan(&left)
		if err != nil || left == 0 || time.Since(start) > patience {
			return left, err
		}
		if err := pause.For(ctx, 50*time.Millisecond); err != nil {
			return left, err
		}
	}
}

// callsOf returns the calls of a scenario, which are made ready once.
func (s *service) callsOf(ctx context.Context, sc scenario) (calls, error) {
	if next := s.calls[sc.name]; next != nil {
		return next, nil
	}
	next, err := sc.calls(ctx, s)
	if err == nil {
		s.calls[sc.name] = next
	}
	return next, err
}
