package commands

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

const (
	// besides is how many receipts a second are staged beside the rides.
	besides = 1000
	// window is how long rides are hailed in each part of an iteration.
	window = 5 * time.Second
	// hailing is how many clients hail rides, each one after the other.
	hailing = 4
)

// BenchmarkRidesBesideReceipts measures what a thousand receipts a second do to
// rides. An iteration is two windows of five seconds, one without receipts and
// one with: they are staged, relayed, and worked without a mail server. So both
// see the same machine. All of it is real: an API, a completer, Postgres, and a
// fake Stripe.
//
//	go test ./internal/commands -run '^$' -bench RidesBesideReceipts -benchtime 5x
//
// It reports rides per second, the 99th percentile of their time, how many
// receipts per second were worked, and how often a transaction of a ride was
// seen to wait for the lock of those that notify, in a look every five
// milliseconds.
func BenchmarkRidesBesideReceipts(b *testing.B) {
	s := newScene(b)
	api := s.start(b, "api", "RATE_LIMIT=0")
	s.start(b, "completer", "POLL=1s", "JOB_CONCURRENCY=256")
	who := client{apiKey: s.apiKey, hail: sanFranciscoToOakland}
	who.window(b, api, "warm")
	s.awaitJobs(b)
	var alone, beside hailed
	var worked, waits int
	var busy time.Duration
	for i := 0; b.Loop(); i++ {
		alone.add(who.window(b, api, fmt.Sprint("alone-", i)))
		s.awaitJobs(b)
		done := number(b, s, `SELECT count(*) FROM river.river_job WHERE state = 'completed'`)
		stop := s.stageReceipts(b, fmt.Sprint("receipt-", i, "-"))
		begun := time.Now()
		with := who.window(b, api, fmt.Sprint("beside-", i))
		beside.add(with)
		busy += time.Since(begun)
		worked += number(b, s, `SELECT count(*) FROM river.river_job WHERE state = 'completed'`) - done
		waits += stop()
		s.awaitJobs(b)
	}
	for name, h := range map[string]hailed{"alone": alone, "beside": beside} {
		b.ReportMetric(float64(len(h))/float64(b.N)/window.Seconds(), "rides/s-"+name)
		b.ReportMetric(float64(h.p99().Microseconds())/1000, "p99-ms-"+name)
	}
	b.ReportMetric(float64(worked)/busy.Seconds(), "receipts/s")
	b.ReportMetric(float64(waits), "lock-waits")
}

// hailed is how long each ride took.
type hailed []time.Duration

func (h *hailed) add(more hailed) { *h = append(*h, more...) }

func (h hailed) p99() time.Duration {
	slices.Sort(h)
	return h[len(h)*99/100]
}

// window hails rides for the time of a window, and returns how long each took.
func (c client) window(b *testing.B, api *process, name string) (all hailed) {
	b.Helper()
	var mu sync.Mutex
	var clients sync.WaitGroup
	end := time.Now().Add(window)
	for n := range hailing {
		clients.Go(func() {
			for i := 0; time.Now().Before(end); i++ {
				begun := time.Now()
				if a := c.post(api, "/v1/rides", fmt.Sprint(name, "-", n, "-", i), c.hail); a.status != 201 {
					b.Errorf("a ride got %d %s %v", a.status, a.body, a.err)
					return
				}
				took := time.Since(begun)
				mu.Lock()
				all = append(all, took)
				mu.Unlock()
			}
		})
	}
	clients.Wait()
	return all
}

// stageReceipts stages receipts of one ride until stop, which returns how often
// rides were seen to wait for the lock of transactions that notify.
func (s *scene) stageReceipts(b *testing.B, name string) (stop func() int) {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	var work sync.WaitGroup
	waits := 0
	work.Go(func() {
		begun := time.Now()
		for staged := 0; ctx.Err() == nil; {
			due := int(time.Since(begun).Seconds() * besides)
			if _, err := s.pool.Exec(context.WithoutCancel(ctx), `
				INSERT INTO staged_jobs (account_id, id, key, kind, args)
				SELECT account_id, 'job_' || $1 || i, $1 || i, 'receipt', jsonb_build_object('ride_id', id, 'amount', fare_amount, 'currency', 'usd')
				FROM (SELECT account_id, id, fare_amount FROM rides LIMIT 1) AS ride, generate_series($2::int, $3::int) AS i`,
				name, staged+1, due); err != nil {
				b.Errorf("staging receipts: %v", err)
				return
			}
			staged = due
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	work.Go(func() {
		for ctx.Err() == nil {
			var now int
			// The lock is that of the object 0 of pg_database.
			if err := s.pool.QueryRow(context.WithoutCancel(ctx), `
				SELECT count(*)
				FROM pg_locks l JOIN pg_stat_activity a USING (pid)
				WHERE NOT l.granted AND l.locktype = 'object' AND l.classid = 'pg_database'::regclass AND l.objid = 0
				  AND a.application_name = 'rocketrides-api'`).Scan(&now); err != nil {
				b.Errorf("looking at locks: %v", err)
				return
			}
			waits += now
			time.Sleep(5 * time.Millisecond)
		}
	})
	return func() int { cancel(); work.Wait(); return waits }
}

// awaitJobs waits until every receipt is worked.
func (s *scene) awaitJobs(b *testing.B) {
	b.Helper()
	waitFor(b, "all receipts are worked", 2*time.Minute, func() bool {
		return number(b, s, `SELECT (SELECT count(*) FROM staged_jobs) + (SELECT count(*) FROM river.river_job WHERE state <> 'completed')`) == 0
	})
}
