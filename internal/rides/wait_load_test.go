package rides

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/proof/wire"
)

// TestTwoThousandClientsWait: one process serves two thousand clients, each of
// which waits for a ride of its own, with two statements a second; and each is
// answered soon after its ride's end: within 0.7 seconds on a machine that is
// not busy with other things. The log of the test has the latencies and the
// memory.
func TestTwoThousandClientsWait(t *testing.T) { //nolint:paralleltest // it measures time and memory
	const (
		clients = 2000
		perStep = 500
		atOnce  = 50 // more would wait too long for a place to read, and be refused
	)
	h := newHarness(t)
	h.hailAs(t, h.visa, "warm").must(t, 201, "")
	h.exec(t, `
		INSERT INTO rides (account_id, id, key, status, origin_lat, origin_lon, target_lat, target_lon, fare_amount, fare_currency, created_at)
		SELECT $1, 'ride_' || n, 'k' || n, 'pending', 0, 0, 1, 1, 500, 'usd', now() FROM generate_series(0, $2 - 1) AS n`,
		h.visa.AccountID, clients)
	before := memory()
	waiting := make([]net.Conn, clients)
	for i := range waiting {
		waiting[i] = h.waitForRide(t, i)
		if n := i + 1; n%atOnce == 0 {
			h.waiting(t, n)
		}
	}
	perClient := (memory() - before) / clients
	t.Logf("%d waiting clients take %d KiB each, the client's side included", clients, perClient>>10)
	if perClient > 128<<10 {
		t.Errorf("a waiting client takes %d bytes", perClient)
	}
	h.checkPolls(t)

	// The rides end in steps, and those of a step at once. All steps but the
	// first begin just after a poll, which is the worst that can happen. A busy
	// machine delays some steps, but not all.
	var slowest []time.Duration
	for from := 0; from < clients; from += perStep {
		h.exec(t, `
			UPDATE rides SET status = 'charged', charge_id = 'ch_' || key, payment_intent_id = 'pi_' || key
			WHERE substr(id, 6)::int >= $1 AND substr(id, 6)::int < $2 AND id <> $3`,
			from, from+perStep, rideID(h.visa.AccountID, "warm"))
		ended := time.Now()
		for i := from; i < from+perStep; i++ {
			checkAnswered(t, waiting[i], i)
		}
		slowest = append(slowest, time.Since(ended))
	}
	h.waiting(t, 0)
	t.Logf("the last answers of each step came %s after the rides' end", slowest)
	if slices.Min(slowest[1:]) > 5*time.Second { // a slow machine needs long to write and to parse the answers
		t.Errorf("the last answers of each step came %s after the rides' end", slowest)
	}
}

// waitForRide asks for ride i, and to wait until it is at rest. A connection
// needs no goroutine on the client's side until its answer is read.
func (h *harness) waitForRide(t *testing.T, i int) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(h.api, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_, err = fmt.Fprintf(conn, "GET /v1/rides/ride_%d HTTP/1.1\r\nHost: rides\r\nAuthorization: Bearer %s\r\nPrefer: wait=30\r\n\r\n",
		i, h.visa.APIKey.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func checkAnswered(t *testing.T, conn net.Conn, i int) {
	t.Helper()
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body := make([]byte, 1000)
	n, _ := response.Body.Read(body)
	if got := string(body[:n]); !strings.Contains(got, fmt.Sprintf(`"id":"ride_%d",`, i)) || !strings.Contains(got, `"status":"charged"`) {
		t.Errorf("the client that waits for ride %d gets %s %s", i, response.Status, got)
	}
}

// checkPolls checks that everything that the process sends to Postgres, while
// its clients wait, are at most two statements a second. A poll may be late,
// and then the next one comes sooner after it.
func (h *harness) checkPolls(t *testing.T) {
	t.Helper()
	const polls = 4
	h.wire.Plan(wire.Nothing)
	start := time.Now()
	pgtest.Eventually(t, "the database is polled", func() bool { return h.wire.Messages() >= polls })
	if took := time.Since(start); took < (polls-2)*500*time.Millisecond {
		t.Errorf("%d statements were sent within %s", polls, took)
	}
	if n := h.config.Pool.Stat().AcquiredConns(); n > 1 { // a poll may be on its way
		t.Errorf("the waiting clients hold %d connections", n)
	}
}

// memory returns how many bytes the process needs, goroutines included.
func memory() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapInuse + stats.StackInuse
}

// TestAPollIsPlannedForTheTablesAsTheyAre: a plan that was made while the tables
// were small would read all of them for each of the clients, which takes longer
// than a poll may.
func TestAPollIsPlannedForTheTablesAsTheyAre(t *testing.T) {
	t.Parallel()
	pgtest.NotOnCitus(t, "it changes a trigger")
	h := newHarness(t)
	h.exec(t, `ALTER TABLE idempotency_keys DISABLE TRIGGER ALL`) // the tripwires are not for so many rows
	watches := make([]*watch, 2000)
	for i := range watches {
		watches[i] = &watch{Account: h.visa.AccountID, Ride: fmt.Sprint("ride_", i), Seen: "pending ", N: i}
		if i%5 == 0 {
			watches[i] = &watch{Account: h.visa.AccountID, Key: fmt.Sprint("k", i), N: i}
		}
	}
	poll := func() {
		t.Helper()
		for range 8 { // Postgres thinks of keeping a plan after five
			if err := h.service.watcher.poll(t.Context(), watches); err != nil {
				t.Fatal(err)
			}
		}
	}
	poll()
	h.exec(t, `ANALYZE`)
	poll()
	const rows, piece = 200_000, 25_000 // a statement may take 10 seconds
	for n := 1; n <= rows; n += piece {
		h.exec(t, `
			INSERT INTO rides (account_id, id, key, status, origin_lat, origin_lon, target_lat, target_lon, fare_amount, fare_currency, created_at)
			SELECT $1, 'ride_' || n, 'k' || n, 'pending', 0, 0, 1, 1, 500, 'usd', now() FROM generate_series($2::int, $3::int) AS n`,
			h.visa.AccountID, n, n+piece-1)
		h.exec(t, `
			INSERT INTO idempotency_keys (account_id, key, flow, flow_version, realm, request_id, method, path, request_hash,
			       canon_version, params, recovery_point, lease_token, lease_epoch, leased_until, attempts)
			SELECT $1, 'k' || n, 'hail', 1, 'test', '', 'POST', '/v1/rides', '', 1, '{}', 'ride_created',
			       gen_random_uuid(), 1, now() + interval '1 hour', 1
			FROM generate_series($2::int, $3::int) AS n`,
			h.visa.AccountID, n, n+piece-1)
	}
	poll()
}
