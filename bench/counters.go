package main

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// A snapshot is what the counters show at one time.
type snapshot struct {
	at                                      time.Time
	postgres, service, helper, stripe, load time.Duration
	machine                                 machineTime
	transactions, statements, trips         int64
	wal                                     string // position
	allocations                             float64
}

// snapshot reads all counters. Those that cost something are read first, so
// that they are outside of what is measured at its begin, and of little weight
// at its end.
func (l *lab) snapshot(ctx context.Context, s *system) (snapshot, error) {
	var now snapshot
	var err error
	if s.service != nil {
		if now.allocations, err = metric(ctx, s.service, "go_memstats_mallocs_total"); err != nil {
			return snapshot{}, err
		}
		now.service = usageOf(s.service.PID()).own
	}
	if s.wire != nil {
		now.statements, now.trips = s.wire.statements.Load(), s.wire.trips.Load()
	}
	if s.helper != nil {
		now.helper = usageOf(s.helper.PID()).own
	}
	err = l.admin.QueryRow(ctx, `SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint, pg_current_wal_flush_lsn()::text`).
		Scan(&now.transactions, &now.wal)
	now.postgres = treeTime(l.server.PID())
	now.stripe = usageOf(l.stripe.PID()).own
	now.load = ownTime() + l.pgbenchTime()
	now.machine = readMachine()
	now.at = time.Now()
	return now, err
}

// metric returns the value of a program's metric that has no labels.
func metric(ctx context.Context, p *program, name string) (float64, error) {
	page, err := get(ctx, p.metrics)
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(page, "\n"+name+" ")
	number, _, _ := strings.Cut(after, "\n")
	return strconv.ParseFloat(number, 64)
}

// connections counts the connections to a database.
func (l *lab) connections(ctx context.Context, database string) (n int, err error) {
	err = l.admin.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity WHERE datname = $1`, database).Scan(&n)
	return n, err
}

// pageImages returns how many bytes of the WAL between two positions are
// full-page images. Postgres writes one at the first change of a page after a
// checkpoint, so that they say more about the time since then than about rides.
// Without the extension pg_walinspect, they aren't told apart.
func (l *lab) pageImages(ctx context.Context, from, to string) (bytes float64, err error) {
	if !l.walInspect || from == to {
		return 0, nil
	}
	err = l.admin.QueryRow(ctx, `SELECT coalesce(sum(fpi_size), 0)::float8 FROM pg_get_wal_stats($1::pg_lsn, $2::pg_lsn)`, from, to).Scan(&bytes)
	return bytes, err
}

// prepareWALInspect makes pg_walinspect usable, if this server has it.
func (l *lab) prepareWALInspect(ctx context.Context) error {
	err := l.admin.QueryRow(ctx, `SELECT true FROM pg_available_extensions WHERE name = 'pg_walinspect'`).Scan(&l.walInspect)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err == nil {
		_, err = l.admin.Exec(ctx, `CREATE EXTENSION pg_walinspect`)
	}
	return err
}
