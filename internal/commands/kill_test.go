package commands

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
)

var full = flag.Bool("full", false, "kill completers over 1,000 rides instead of a tenth of them, and an api 50 times instead of 3")

// TestKilledCompletersDeliverEverything kills completers at random moments
// while clients hail and cancel rides, and while receipts and callbacks of
// these leave. Some requests lose Stripe's answer, so completers also finish
// rides. In the end each ride has exactly the receipts and callbacks that are
// true of it. One that came twice was on its way when its completer was killed,
// and had the same Message-ID or webhook-id both times (I19, I20).
func TestKilledCompletersDeliverEverything(t *testing.T) {
	t.Parallel()
	d := demand{rides: 100, kills: 6}
	if *full {
		d = demand{rides: 1000, kills: 40}
	}
	s := newScene(t)
	sinks := newSinks(t)
	settings := []string{
		"RATE_LIMIT=0", "CALLBACK_ALLOW=127.0.0.0/8", "STRIPE_TIMEOUT=3s", "LEASE=4s", "BACKOFF_INITIAL=100ms", "JOB_TIMEOUT=15s",
		"SMTP_URL=" + sinks.smtpURL, "MAIL_FROM=receipts@example.com",
	}
	api := s.start(t, "api", settings...)
	d.clients = []client{sinks.client(s)}
	s.addAccount(t, "declined", "pm_card_chargeCustomerFail")
	d.clients = append(d.clients, sinks.client(s))
	for i := range d.rides / 20 {
		kind := []fakestripe.Kind{fakestripe.DropBefore, fakestripe.DropAfter}[i%2]
		s.fake.Script(fakestripe.Fault{Kind: kind, Match: fakestripe.Match{Path: "/v1/payment_intents"}, Skip: 20 * i},
			fakestripe.Fault{Kind: kind, Match: fakestripe.Match{Path: "/v1/refunds"}, Skip: 5 * i})
	}
	begun := time.Now()
	served := make(chan struct{})
	go func() { defer close(served); d.run(t, api) }()
	t.Cleanup(func() { <-served })
	kills := s.killCompleters(t, d.kills, sinks, served, settings)
	<-served
	lastKill := time.Now()
	s.start(t, "completer", settings...)
	waitFor(t, "everything is delivered", 4*time.Minute, func() bool {
		return number(t, s, `SELECT (SELECT count(*) FROM idempotency_keys WHERE finished_at IS NULL) + (SELECT count(*) FROM staged_jobs)
			+ (SELECT count(*) FROM river.river_job WHERE state <> 'completed')`) == 0
	})
	d.checkRides(t, s)
	s.checkJobs(t, sinks)
	s.audit(t, 0)
	t.Logf("%d kills in %s; all was delivered %s after the last", kills, lastKill.Sub(begun).Round(time.Second), time.Since(lastKill).Round(time.Second))
}

// killCompleters keeps two completers running, and kills one after the other at
// random moments, until clients are served, and at least n times.
func (s *scene) killCompleters(t *testing.T, n int, sinks *sinks, served <-chan struct{}, settings []string) (kills int) {
	t.Helper()
	isServed := func() bool {
		select {
		case <-served:
			return true
		default:
			return false
		}
	}
	running := []*process{s.start(t, "completer", settings...), s.start(t, "completer", settings...)}
	for kills < n || !isServed() {
		// A moment is a number of deliveries, and a part of one. When there
		// are no more to come, it is a time.
		moment, limit := sinks.count()+rand.IntN(40), time.Now().Add(time.Second)
		for sinks.count() < moment && time.Now().Before(limit) {
			time.Sleep(time.Duration(rand.IntN(int(2 * time.Millisecond))))
		}
		i := kills % len(running)
		running[i].kill(t)
		kills++
		running[i] = s.start(t, "completer", settings...)
	}
	for _, completer := range running {
		completer.kill(t)
	}
	return kills + len(running)
}

// A demand is what clients ask for. The last client's card is declined. It
// hails a tenth of the rides, and asks not to wait for every second one of
// them. Of the others a third is canceled.
type demand struct {
	rides, kills int
	clients      []client
}

// cancels reports whether the client of the i-th ride cancels it.
func (d demand) cancels(i int) bool { return i%10 >= 1 && i%10 <= 3 }

// run hails and cancels rides, four at a time, until each is answered for good.
func (d demand) run(t *testing.T, api *process) {
	t.Helper()
	places := make(chan struct{}, 4)
	for i := range d.rides {
		places <- struct{}{}
		go func() {
			defer func() { <-places }()
			who, want := d.clients[0], http.StatusCreated
			if i%10 == 0 {
				who, want = d.clients[1], http.StatusPaymentRequired
			}
			if i%20 == 0 {
				who.prefer, want = "respond-async", http.StatusAccepted
			}
			a := who.insist(api, "/v1/rides", fmt.Sprint("ride-", i), who.hail)
			if a.status != want {
				t.Errorf("ride %d got %d %s %v", i, a.status, a.body, a.err)
				return
			}
			if d.cancels(i) {
				if a := who.insist(api, a.header.Get("Location")+"/cancel", fmt.Sprint("cancel-", i), "{}"); a.status != http.StatusOK {
					t.Errorf("cancel %d got %d %s %v", i, a.status, a.body, a.err)
				}
			}
		}()
	}
	for range cap(places) {
		places <- struct{}{}
	}
}

// checkRides checks that the rides are those that clients were told of, and
// that no card was charged and nothing refunded twice.
func (d demand) checkRides(t *testing.T, s *scene) {
	t.Helper()
	want := map[string]int{"declined": d.rides / 10, "canceled": d.rides / 10 * 3, "charged": d.rides / 10 * 6}
	for status, n := range want {
		if got := number(t, s, `SELECT count(*) FROM rides WHERE status = $1`, status); got != n {
			t.Errorf("%d rides are %s, want %d", got, status, n)
		}
	}
	if charges := s.fake.Charges(); len(charges) != want["charged"]+want["canceled"] || slices.ContainsFunc(slices.Collect(maps.Values(charges)), func(n int) bool { return n != 1 }) {
		t.Errorf("Stripe has charged %v", charges)
	}
	if got := len(s.fake.Refunds()); got != want["canceled"] {
		t.Errorf("Stripe has %d refunds, want %d", got, want["canceled"])
	}
}

// checkJobs compares what was delivered with what is true of the rides.
func (s *scene) checkJobs(t *testing.T, sinks *sinks) {
	t.Helper()
	receipts := `SELECT format('receipt.charged.%s@example.com', id) AS id FROM rides WHERE status IN ('charged', 'canceled')
		UNION ALL SELECT format('receipt.canceled.%s@example.com', id) FROM rides WHERE status = 'canceled'
		UNION ALL SELECT format('receipt.declined.%s@example.com', r.id) FROM rides r JOIN idempotency_keys k USING (account_id, key)
		WHERE r.status = 'declined' AND k.async`
	callbacks := `SELECT format('ride.charged of %s, charged', id) AS id FROM rides WHERE status IN ('charged', 'canceled')
		UNION ALL SELECT format('ride.%s of %s, %1$s', status, id) FROM rides WHERE status IN ('canceled', 'declined')`
	due := 0
	for what, pair := range map[string]struct {
		sql string
		got map[string]int
	}{"receipts": {receipts, sinks.receipts(t)}, "callbacks": {callbacks, sinks.callbacksByRide(t)}} {
		want := s.texts(t, pair.sql)
		due += len(want)
		for _, id := range want {
			if pair.got[id] == 0 {
				t.Errorf("of the %s, %s did not come", what, id)
			}
			delete(pair.got, id)
		}
		for id := range pair.got {
			t.Errorf("of the %s, %s came and isn't so", what, id)
		}
	}
	if got, want := s.texts(t, `SELECT format('%s relayed, %s of them different, %s worked', count(*), count(DISTINCT args ->> 'id'),
		count(*) FILTER (WHERE state = 'completed')) FROM river.river_job`)[0], fmt.Sprintf("%d relayed, %[1]d of them different, %[1]d worked", due); got != want {
		t.Errorf("of %d staged jobs there are %s", due, got)
	}
	s.checkTwice(t, sinks)
}

// checkTwice checks that what came more than once was sent by a completer that
// was killed before it had said so: River has rescued its job as often.
func (s *scene) checkTwice(t *testing.T, sinks *sinks) {
	t.Helper()
	const rescued = `(SELECT count(*) FROM unnest(errors) AS e WHERE e ->> 'error' = 'Stuck job rescued by JobRescuer')`
	receipts := sinks.receipts(t)
	twice := map[string]int{}
	for id, n := range receipts {
		if n > 1 {
			twice["receipts"] += n - 1
			if may := number(t, s, `SELECT `+rescued+` FROM river.river_job WHERE kind = 'receipt/1'
				AND format('receipt.%s.%s@example.com', args -> 'job' ->> 'event', args -> 'job' ->> 'ride_id') = $1`, id); n-1 > may {
				t.Errorf("%s came %d times, and its job was rescued %d times", id, n, may)
			}
		}
	}
	for id, n := range sinks.callbacksByID() {
		if n > 1 {
			twice["callbacks"] += n - 1
			if may := number(t, s, `SELECT `+rescued+` FROM river.river_job j JOIN callbacks c
				ON c.account_id = j.args ->> 'account_id' AND c.job_id = j.args ->> 'id' WHERE c.id = $1`, id); n-1 > may {
				t.Errorf("%s came %d times, and its job was rescued %d times", id, n, may)
			}
		}
	}
	t.Logf("%d receipts came, and %d again; %d callbacks, and %d again; %d jobs were rescued", len(receipts), twice["receipts"],
		len(sinks.callbacksByID()), twice["callbacks"], number(t, s, `SELECT count(*) FROM river.river_job WHERE `+rescued+` > 0`))
}

// texts returns the texts that a query finds.
func (s *scene) texts(t *testing.T, sql string) []string {
	t.Helper()
	rows, err := s.pool.Query(t.Context(), sql)
	if err != nil {
		t.Fatal(err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return found
}
