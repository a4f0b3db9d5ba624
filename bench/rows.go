package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/pause"
)

// The rows that are made are copies of a finished key and its ride, all of one
// account. Keys and ids are random, as clients and the service make them. The
// first tenth of the answers is older than the retention.
const (
	makeIDs = `
		CREATE TABLE old AS
		SELECT row_number() OVER (ORDER BY id) AS n, id FROM (SELECT left(md5(g::text), 26) AS id FROM generate_series(1, $1::int) AS g) AS all_ids`
	indexIDs = `ALTER TABLE old ADD PRIMARY KEY (n)`
	copyKeys = `
		INSERT INTO idempotency_keys (account_id, key, flow, flow_version, realm, request_id, method, path, request_hash,
		       canon_version, params, recovery_point, foreign_key, lease_epoch, attempts, first_sent_at, response_status,
		       response_headers, response_body, run_after, created_at, finished_at)
		SELECT k.account_id, old.id, k.flow, k.flow_version, k.realm, k.request_id, k.method, k.path, k.request_hash,
		       k.canon_version, k.params, k.recovery_point, k.foreign_key, k.lease_epoch, k.attempts, k.first_sent_at,
		       k.response_status, k.response_headers, k.response_body, k.run_after, now(),
		       now() - CASE WHEN old.n <= $4 THEN interval '73 hours' ELSE interval '1 hour' END + old.n * interval '1 us'
		FROM idempotency_keys AS k, old
		WHERE k.account_id = $1 AND k.key = (SELECT max(key) FROM rides WHERE account_id = $1) AND old.n BETWEEN $2 AND $3`
	copyRides = `
		INSERT INTO rides (account_id, id, key, status, origin_lat, origin_lon, target_lat, target_lon, fare_amount,
		       fare_currency, charge_id, payment_intent_id, created_at)
		SELECT r.account_id, 'ride_' || old.id, old.id, r.status, r.origin_lat, r.origin_lon, r.target_lat, r.target_lon,
		       r.fare_amount, r.fare_currency, 'ch_' || old.id, 'pi_' || old.id, now() - interval '1 day' + old.n * interval '1 ms'
		FROM rides AS r, old
		WHERE r.account_id = $1 AND r.key = (SELECT max(key) FROM rides WHERE account_id = $1) AND old.n BETWEEN $2 AND $3`
	// answered are ids whose keys are still answered.
	answered = `SELECT id FROM old WHERE n > $1 ORDER BY random() LIMIT 100000`
)

// measureRows compares a database with many finished keys and rides with one
// that has few. Each has a service, and they take turns.
func (r *run) measureRows(ctx context.Context) error {
	few, err := r.startService(ctx, "few_rows", "")
	if err != nil {
		return err
	}
	defer r.end(ctx, few)
	many, err := r.startService(ctx, "many_rows", "")
	if err != nil {
		return err
	}
	defer r.end(ctx, many)
	for _, s := range []*service{few, many} {
		s.accounts = s.accounts[:1]
		if err := (load{s.service.address, freshRides(s.accounts)}).sendAll(finished, created); err != nil {
			return err
		}
	}
	ids, err := r.fill(ctx, many)
	if err != nil {
		return err
	}
	for _, s := range []*service{few, many} {
		if err := r.exec(ctx, s.database, "VACUUM ANALYZE"); err != nil {
			return err
		}
	}
	if err := r.compareRows(ctx, few, many, ids); err != nil {
		return err
	}
	if err := r.measurePoll(ctx, many); err != nil {
		return err
	}
	return r.measureReaping(ctx, many)
}

// fill makes the rows, and returns the ids of some.
func (r *run) fill(ctx context.Context, s *service) ([]string, error) {
	const piece = 500_000
	conn, err := r.connect(ctx, s.database)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx) //nolint:errcheck // it is only given back
	for _, statement := range []string{makeIDs, indexIDs} {
		if _, err := conn.Exec(ctx, strings.ReplaceAll(statement, "$1", strconv.Itoa(r.Rows))); err != nil {
			return nil, fmt.Errorf("making ids: %w", err)
		}
	}
	for from := 1; from <= r.Rows; from += piece {
		to := min(from+piece-1, r.Rows)
		if _, err := conn.Exec(ctx, copyKeys, s.accounts[0].ID, from, to, r.Rows/10); err != nil {
			return nil, fmt.Errorf("making keys: %w", err)
		}
		if _, err := conn.Exec(ctx, copyRides, s.accounts[0].ID, from, to); err != nil {
			return nil, fmt.Errorf("making rides: %w", err)
		}
		fmt.Fprintf(r.out, "made %d of %d keys and rides\n", to, r.Rows)
	}
	found, err := conn.Query(ctx, answered, r.Rows/10)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(found, pgx.RowTo[string])
}

// compareRows measures what clients ask for: in the database with few rows of
// its thousand, in the other one of any.
func (r *run) compareRows(ctx context.Context, few, many *service, ids []string) error {
	var fewIDs []string
	found, err := few.pool.Query(ctx, `SELECT key, substr(id, 6) FROM rides`)
	if err != nil {
		return err
	}
	keyOf := map[string]string{}
	var key, id string
	_, err = pgx.ForEachRow(found, []any{&key, &id}, func() error {
		fewIDs, keyOf[id] = append(fewIDs, id), key
		return nil
	})
	if err != nil {
		return err
	}
	get := func(s *service, path string) call {
		return call{method: http.MethodGet, path: path, apiKey: s.accounts[0].APIKey}
	}
	asked := []struct {
		name   string
		wanted int
		call   func(s *service, id string) call
	}{
		{"replays", replayed + created, func(s *service, id string) call {
			if key := keyOf[id]; key != "" {
				return hail(s.accounts[0], key)
			}
			return hail(s.accounts[0], id)
		}},
		{"a ride", ok, func(s *service, id string) call { return get(s, "/v1/rides/ride_"+id) }},
		{"pages", ok, func(s *service, id string) call { return get(s, "/v1/rides?starting_after=ride_"+id) }},
	}
	for range r.Rounds {
		for _, of := range []struct {
			*service
			ids []string
		}{{few, fewIDs}, {many, ids}} {
			if err := r.addRows(ctx, of.service, fresh, created, freshRides(of.accounts)); err != nil {
				return err
			}
			for _, a := range asked {
				next := func() call { return a.call(of.service, of.ids[rand.IntN(len(of.ids))]) }
				if err := r.addRows(ctx, of.service, a.name, a.wanted, next); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (r *run) addRows(ctx context.Context, s *service, name string, wanted int, next calls) error {
	w := workload{clients: 32, seconds: r.short(5 * time.Second), settle: time.Second, wanted: []int{wanted}}
	return r.add(ctx, strings.ReplaceAll(s.database, "_", " ")+": "+name, s, s.sending(next), w)
}

var duration = regexp.MustCompile(`LOG:  duration: ([0-9.]+) ms  (?:execute|statement)[^:]*:\s+SELECT[^;]+?AND run_after <=`)

// measurePoll measures how long the completer's question for due keys takes, by
// Postgres's log.
func (r *run) measurePoll(ctx context.Context, s *service) error {
	log, err := r.logged(func() error {
		url := withSetting(s.url, "log_min_duration_statement", "0")
		completer, err := r.startCompleter(ctx, url, "RETENTION=10000h", "POLL=100ms")
		if err != nil {
			return err
		}
		if err := pause.For(ctx, r.short(6*time.Second)); err != nil {
			return err
		}
		return r.stop(ctx, completer)
	})
	if err != nil {
		return err
	}
	var polls []time.Duration
	for entry := range strings.SplitSeq(log, logPrefix) {
		if found := duration.FindStringSubmatch(entry); found != nil {
			took, err := time.ParseDuration(found[1] + "ms")
			if err != nil {
				return err
			}
			polls = append(polls, took)
		}
	}
	if len(polls) == 0 {
		return errors.New("no poll in Postgres's log")
	}
	slices.Sort(polls)
	m := result{
		Scenario: "many rows: poll", System: s.name, Clients: 1, Round: 1, Answers: len(polls),
		P50: quantile(polls, 50), P95: quantile(polls, 95), P99: quantile(polls, 99), Max: quantile(polls, 100),
	}
	r.results = append(r.results, m)
	fmt.Fprintf(r.out, "once %s\n", m.line())
	return nil
}

// measureReaping measures fresh rides while the completer reaps, and while it
// has nothing to reap.
func (r *run) measureReaping(ctx context.Context, s *service) error {
	for range r.Rounds {
		if err := r.measureReaper(ctx, s, "many rows: fresh, nothing to reap", "10000h"); err != nil {
			return err
		}
		if err := r.measureReaper(ctx, s, "many rows: fresh, reaping", "72h"); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) measureReaper(ctx context.Context, s *service, name, retention string) error {
	began := time.Now() // the completer reaps as soon as it runs
	completer, err := r.startCompleter(ctx, s.url, "RETENTION="+retention)
	if err != nil {
		return err
	}
	defer r.stop(ctx, completer) //nolint:errcheck // it is killed at the end if it doesn't stop
	s.helper = completer
	defer func() { s.helper = nil }()
	w := workload{clients: 32, seconds: r.short(5 * time.Second), settle: time.Second, wanted: []int{created}}
	if err := r.add(ctx, name, s, s.sending(freshRides(s.accounts)), w); err != nil {
		return err
	}
	reaped, err := metric(ctx, completer, "phases_reaped_total")
	if err != nil {
		return err
	}
	last := &r.results[len(r.results)-1]
	last.Reaped = reaped / time.Since(began).Seconds()
	fmt.Fprintf(r.out, "  %.0f keys reaped a second\n", last.Reaped)
	return nil
}
