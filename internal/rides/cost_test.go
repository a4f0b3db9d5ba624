package rides

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/proof/wire"
)

// TestRoundTrips counts the messages to Postgres at the socket.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.hailAs(t, h.visa, "warm").must(t, 201, "") // authentication cached, statements prepared
	wantWrites := func(want int) {
		t.Helper()
		if pgtest.OnCitus() {
			return // it takes triggers to count them
		}
		if got := number(t, h, `SELECT count(DISTINCT xid) FROM phase_log WHERE key = 'k'`); got != want {
			t.Errorf("there were %d writing transactions, want %d", got, want)
		}
	}

	h.wire.Plan(wire.Nothing)
	h.hailAs(t, h.visa, "k").must(t, 201, "")
	if got := h.wire.Messages(); got != 3 {
		t.Errorf("a ride took %d round trips, want 3", got)
	}
	wantWrites(2)
	for name, refused := range map[string]call{
		"a replay":        {method: "POST", path: "/v1/rides", body: aRide, key: "k", as: h.visa},
		"another request": {method: "POST", path: "/v1/rides", body: `{}`, key: "k", as: h.visa},
	} {
		h.wire.Plan(wire.Nothing)
		h.send(t, refused)
		if got := h.wire.Messages(); got != 1 {
			t.Errorf("%s took %d round trips, want 1", name, got)
		}
	}
	wantWrites(2) // replays write nothing
	if n := number(t, h, `SELECT count(*) FROM audit_records WHERE action = 'key.barrier'`); n != 0 {
		t.Errorf("%d barriers were written although nothing was in doubt", n)
	}
}

// TestSlowStripe: 300 rides wait for Stripe, and hold neither a transaction nor
// more than a few connections.
func TestSlowStripe(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	const rides = 300
	// Until its API key is known, an account may not send so much at once.
	h.hailAs(t, h.visa, "warm").must(t, 201, "")
	gate := make(chan struct{})
	h.fake.Script(fakestripe.Fault{Kind: fakestripe.Delayed, HoldBefore: gate, Times: rides})
	var group sync.WaitGroup
	for i := range rides {
		group.Go(func() { // like a client, because a loaded machine may not answer in time
			for again := true; again && t.Context().Err() == nil; runtime.Gosched() {
				status := h.hailAs(t, h.visa, fmt.Sprint("k", i)).status
				again = status == http.StatusServiceUnavailable || status == http.StatusConflict
				if !again && status != http.StatusCreated {
					t.Errorf("ride %d was answered %d", i, status)
				}
			}
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := h.fake.WaitSends(ctx, 1+rides, nil); err != nil {
		t.Fatalf("not all rides reached Stripe: %v", err)
	}
	if n := number(t, h, `SELECT count(*) FROM `+pgtest.Activity()+` WHERE datname = current_database() AND state LIKE 'idle in transaction%'`); n != 0 {
		t.Errorf("%d sessions are idle in transaction", n)
	}
	if n := number(t, h, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'Test%'`); n > 20 {
		t.Errorf("%d rides in flight hold %d connections", rides, n)
	}
	close(gate)
	group.Wait()
	if n := number(t, h, `SELECT count(*) FROM rides WHERE status = 'charged'`); n != 1+rides {
		t.Errorf("%d of %d rides are charged", n, 1+rides)
	}
}
