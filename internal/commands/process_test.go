package commands

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
)

// When an API is killed in the middle of a charge, the completer finishes the
// ride after the lease has ended.
func TestCompleterFinishesTheRideOfAKilledAPI(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"fused", "stepwise"} {
		for name, fault := range map[string]fakestripe.Fault{
			"before Stripe has charged": {Kind: fakestripe.Delayed},
			"after Stripe has charged":  {Kind: fakestripe.Delayed},
		} {
			t.Run(mode+" "+name, func(t *testing.T) {
				t.Parallel()
				s := newScene(t)
				gate := make(chan struct{})
				if name == "before Stripe has charged" {
					fault.HoldBefore = gate
				} else {
					fault.HoldAfter = gate
				}
				s.fake.Script(fault)
				api := s.start(t, "api", "PHASES="+mode, shortLease)
				s.start(t, "completer", "PHASES="+mode)
				answers := s.hailInBackground(api, "k")
				s.waitForStripe(t, 1)
				api.kill(t)
				killed := time.Now()
				if a := <-answers; a.err == nil {
					t.Errorf("a killed process answered %d", a.status)
				}
				close(gate)
				s.waitForCharge(t, "k", 30*time.Second)
				t.Logf("charged %s after the kill, with %s", time.Since(killed).Round(time.Millisecond), shortLease)
				again := s.hail(s.start(t, "api"), "k")
				if again.status != http.StatusCreated || again.header.Get("Idempotent-Replayed") != "true" {
					t.Errorf("the retry got %d: %s %v", again.status, again.body, again.err)
				}
				s.checkCharges(t)
			})
		}
	}
}

// An API that was suspended until after its lease changes nothing when it
// continues, and answers with what was stored in the meantime.
func TestSuspendedAPIChangesNothing(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	gate := make(chan struct{})
	s.fake.Script(fakestripe.Fault{Kind: fakestripe.Delayed, HoldAfter: gate})
	api := s.start(t, "api", "STRIPE_TIMEOUT=20s", shortLease)
	answers := s.hailInBackground(api, "k")
	s.waitForStripe(t, 1)
	api.signal(t, syscall.SIGSTOP)
	close(gate)
	s.start(t, "completer")
	s.waitForCharge(t, "k", 20*time.Second)
	rows := `SELECT md5(string_agg(k::text || r::text, '')) = $1 FROM idempotency_keys k JOIN rides r USING (account_id, key)`
	var before string
	if err := s.pool.QueryRow(t.Context(), strings.Replace(rows, " = $1", "", 1)).Scan(&before); err != nil {
		t.Fatal(err)
	}
	api.signal(t, syscall.SIGCONT)
	continued := <-answers
	var same bool
	if err := s.pool.QueryRow(t.Context(), rows, before).Scan(&same); err != nil || !same {
		t.Errorf("the process changed rows when it continued (%v)", err)
	}
	stored := s.hail(s.start(t, "api"), "k")
	// It gives its call up if it sees first that its lease has run out.
	givenUp := continued.status == http.StatusServiceUnavailable
	if !givenUp && (continued.status != http.StatusCreated || continued.body != stored.body) {
		t.Errorf("the process answered %d %s (%v) when it continued, stored is %s", continued.status, continued.body, continued.err, stored.body)
	}
	s.checkCharges(t)
}

// The ride of a client that closed its connection is finished by the API
// itself: no completer runs here.
func TestRideGoesOnWithoutItsClient(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	gate := make(chan struct{})
	s.fake.Script(fakestripe.Fault{Kind: fakestripe.Delayed, HoldBefore: gate})
	api := s.start(t, "api", "STRIPE_TIMEOUT=20s", "LEASE=21s")
	closeConnection := s.hailAndLeave(t, api, "k")
	s.waitForStripe(t, 1)
	closeConnection()
	close(gate)
	s.waitForCharge(t, "k", 20*time.Second)
}

// SIGTERM waits for running rides, and releases those that take too long, so
// that another process continues them without waiting for a lease to end.
func TestSIGTERM(t *testing.T) {
	t.Parallel()

	t.Run("a ride that finishes in time is answered", func(t *testing.T) {
		t.Parallel()
		s := newScene(t)
		gate := make(chan struct{})
		s.fake.Script(fakestripe.Fault{Kind: fakestripe.Delayed, HoldBefore: gate})
		api := s.start(t, "api", "STRIPE_TIMEOUT=20s", "LEASE=21s")
		answers := s.hailInBackground(api, "k")
		s.waitForStripe(t, 1)
		api.signal(t, syscall.SIGTERM)
		waitFor(t, "it isn't ready any more", 10*time.Second, func() bool { return get(t, api.admin+"/readyz") == 503 })
		if a := s.hail(api, "late"); a.status != 503 || a.header.Get("Retry-After") == "" {
			t.Errorf("a late ride got %d %v", a.status, a.err)
		}
		close(gate)
		if a := <-answers; a.status != 201 {
			t.Errorf("the running ride got %d %v", a.status, a.err)
		}
		<-api.done
		if code := api.command.ProcessState.ExitCode(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		if n := number(t, s, `SELECT count(*) FROM idempotency_keys`); n != 1 {
			t.Errorf("%d keys, want 1: the late one was claimed", n)
		}
	})

	t.Run("a ride that does not is released, due at once", func(t *testing.T) {
		t.Parallel()
		s := newScene(t)
		gate := make(chan struct{})
		s.fake.Script(fakestripe.Fault{Kind: fakestripe.Delayed, HoldBefore: gate})
		api := s.start(t, "api", "STRIPE_TIMEOUT=30s", "LEASE=10m", "SHUTDOWN_TIMEOUT=4s")
		answers := s.hailInBackground(api, "k")
		s.waitForStripe(t, 1)
		api.signal(t, syscall.SIGTERM)
		if a := <-answers; a.status != 503 || a.header.Get("Retry-After") == "" {
			t.Errorf("it was answered with %d %s %v", a.status, a.body, a.err)
		}
		<-api.done
		if code := api.command.ProcessState.ExitCode(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		close(gate)
		s.start(t, "completer", "STRIPE_TIMEOUT=30s", "LEASE=10m")
		s.waitForCharge(t, "k", 30*time.Second)
	})

	t.Run("a completer releases the key that it works on", func(t *testing.T) {
		t.Parallel()
		s := newScene(t)
		gate := make(chan struct{})
		s.fake.Script(fakestripe.Fault{Kind: fakestripe.DropBefore}, fakestripe.Fault{Kind: fakestripe.Delayed, HoldBefore: gate})
		settings := []string{"STRIPE_TIMEOUT=30s", "LEASE=10m", "SHUTDOWN_TIMEOUT=1s"}
		if a := s.hail(s.start(t, "api", settings...), "k"); a.status != 503 {
			t.Fatalf("got %d %v", a.status, a.err)
		}
		completer := s.start(t, "completer", settings...)
		s.waitForStripe(t, 2)
		completer.signal(t, syscall.SIGTERM)
		<-completer.done
		if code := completer.command.ProcessState.ExitCode(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		close(gate)
		s.start(t, "completer", settings...)
		s.waitForCharge(t, "k", 30*time.Second)
	})
}

// Ctrl-C after an earlier signal ends the process at once; a second SIGTERM
// doesn't.
func TestCtrlCAfterASignalDoesNotWait(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	gate := make(chan struct{})
	defer close(gate)
	s.fake.Script(fakestripe.Fault{Kind: fakestripe.Delayed, HoldBefore: gate})
	api := s.start(t, "api", "STRIPE_TIMEOUT=5m", "LEASE=10m", "SHUTDOWN_TIMEOUT=5m")
	answers := s.hailInBackground(api, "k")
	s.waitForStripe(t, 1)
	for range 2 {
		api.signal(t, syscall.SIGTERM)
		waitFor(t, "it isn't ready any more", 10*time.Second, func() bool { return get(t, api.admin+"/readyz") == 503 })
	}
	api.signal(t, syscall.SIGINT)
	if a := <-answers; a.err == nil {
		t.Errorf("the ride was answered with %d", a.status)
	}
	<-api.done
	if status, ok := api.command.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGINT {
		t.Errorf("it ended with %v", api.command.ProcessState)
	}
}

// Two of each program work on one database, under faults of Stripe's.
func TestTwoAPIsAndTwoCompleters(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.fake.Script(
		fakestripe.Fault{Kind: fakestripe.DropAfter, Skip: 5, Times: 5},
		fakestripe.Fault{Kind: fakestripe.Unsaved500, Skip: 10, Times: 5},
		fakestripe.Fault{Kind: fakestripe.DropBefore, Skip: 15, Times: 5},
	)
	apis := []*process{s.start(t, "api"), s.start(t, "api", "PHASES=stepwise")}
	s.start(t, "completer", "BACKOFF_INITIAL=50ms")
	s.start(t, "completer", "BACKOFF_INITIAL=50ms")
	const rides = 40
	var group sync.WaitGroup
	for i := range rides {
		for _, api := range apis { // each ride is requested from both at once
			group.Go(func() {
				if a := s.hail(api, fmt.Sprint("k", i)); a.err != nil || a.status != 201 && a.status != 409 && a.status != 503 {
					t.Errorf("ride %d got %d %s %v", i, a.status, a.body, a.err)
				}
			})
		}
	}
	group.Wait()
	waitFor(t, "all rides are charged", time.Minute, func() bool {
		return number(t, s, `SELECT count(*) FROM idempotency_keys WHERE finished_at IS NOT NULL AND response_status = 201`) == rides
	})
	s.checkCharges(t)
	var first answer
	for i, api := range append(apis, apis...) {
		a := s.hail(api, "k0")
		if i > 0 && a.body != first.body || a.status != 201 {
			t.Errorf("answers differ: %s and %s", first.body, a.body)
		}
		first = a
	}
}

// No client notices when every connection of the pool was closed by Postgres,
// as in a restart.
func TestClosedConnectionsGoUnnoticed(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	api := s.start(t, "api")
	for i := range 3 {
		if a := s.hail(api, fmt.Sprint("before", i)); a.status != 201 {
			t.Fatalf("got %d %v", a.status, a.err)
		}
		if _, err := s.pool.Exec(t.Context(), `
			SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = 'rocketrides-api'`); err != nil {
			t.Fatal(err)
		}
		if a := s.hail(api, fmt.Sprint("after", i)); a.status != 201 {
			t.Errorf("after all connections were closed a ride got %d %s %v", a.status, a.body, a.err)
		}
	}
	s.checkCharges(t)
}
