package rides

import (
	"context"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

// fillQueues puts events about n objects into the inbox, and n payment intents
// among those that may be open. Stripe knows none of them. They have been due
// for so long that those with the lowest numbers come first.
func (h *harness) fillQueues(t *testing.T, n int) {
	t.Helper()
	h.exec(t, `
		INSERT INTO stripe_events (id, type, object, object_id, livemode, run_after)
		SELECT 'evt_' || n, 'charge.refunded', 'charge', 'ch_' || n, false, now() - interval '1 day' + n * interval '1 minute'
		FROM generate_series(1, $1) AS n`, n)
	h.exec(t, `
		INSERT INTO open_intents (account_id, intent_id, ride_id, operation, livemode, run_after)
		SELECT $2, 'pi_' || n, 'ride_' || n, 'operation_' || n, false, now() - interval '1 day' + n * interval '1 minute'
		FROM generate_series(1, $1) AS n`, n, h.declined.AccountID)
}

// left returns how many objects of events, and how many payment intents, wait.
func (h *harness) left(t *testing.T) [2]int {
	t.Helper()
	return [2]int{
		number(t, h, `SELECT count(DISTINCT object_id) FROM stripe_events WHERE worked_at IS NULL`),
		number(t, h, `SELECT count(*) FROM open_intents`),
	}
}

// patientWorker returns the worker of another process, which waits for Stripe
// longer than a slow machine needs for everything else.
func (h *harness) patientWorker(t *testing.T) *EventWorker {
	t.Helper()
	h.callTimeout = time.Minute
	return h.startProcess(t, nil).eventWorker()
}

// TestOneRoundWorksAllThatWasDue: however much it is, and a sweep's does too.
// What fails is tried once.
func TestOneRoundWorksAllThatWasDue(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	const n = oldestEvents + 20
	for name, round := range map[string]func() (EventCounts, error){
		"once": func() (EventCounts, error) { return h.eventWorker().Once(t.Context()) },
		"sweep": func() (EventCounts, error) {
			counts, err := h.eventWorker().Sweep(t.Context())
			return counts.EventCounts, err
		},
	} {
		h.fillQueues(t, n)
		// So many about one object that they fill the list, and are not taken
		// together.
		h.exec(t, `
			INSERT INTO stripe_events (id, type, object, object_id, livemode, run_after)
			SELECT 'evt_crowd_' || n, 'charge.refunded', 'charge', 'ch_crowd', false, now() - interval '2 days'
			FROM generate_series(1, $1) AS n`, eventBatch+1)
		h.fake.Script(
			fakestripe.Fault{Kind: fakestripe.Unavailable503, Match: fakestripe.Match{Method: "GET", Path: "/v1/charges/ch_1"}, Times: -1},
			fakestripe.Fault{Kind: fakestripe.Unavailable503, Match: fakestripe.Match{Path: "/v1/payment_intents/pi_1/cancel"}, Times: -1},
		)
		counts, err := round()
		if want := (EventCounts{Worked: n + 1, Released: 1, Closed: n - 1}); err != nil || counts != want {
			t.Errorf("%s did %+v, %v; want %+v", name, counts, err, want)
		}
		if got := h.left(t); got != [2]int{1, 1} {
			t.Errorf("after %s %v wait", name, got)
		}
		h.exec(t, `DELETE FROM stripe_events`)
		h.exec(t, `DELETE FROM open_intents`)
	}
}

// TestWhatHangsHoldsUpNothingElse: while Stripe doesn't answer about one object,
// and one cancel, all others are worked, and without the pause of the poll in
// between.
func TestWhatHangsHoldsUpNothingElse(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.fillQueues(t, oldestEvents+20)
	gate := make(chan struct{})
	defer close(gate)
	h.fake.Script(
		fakestripe.Fault{Kind: fakestripe.Delayed, HoldBefore: gate, Match: fakestripe.Match{Method: "GET", Path: "/v1/charges/ch_1"}, Times: -1},
		fakestripe.Fault{Kind: fakestripe.Delayed, HoldBefore: gate, Match: fakestripe.Match{Path: "/v1/payment_intents/pi_1/cancel"}, Times: -1},
	)
	w := h.patientWorker(t)
	w.Poll = time.Hour
	background(t, w)
	pgtest.Eventually(t, "all but what hangs is worked", func() bool { return h.left(t) == [2]int{1, 1} })
	// They still hang: nobody has waited until the requests timed out.
	if n := number(t, h, `SELECT (SELECT count(*) FROM stripe_events WHERE object_id = 'ch_1' AND attempts = 1 AND worked_at IS NULL AND last_error IS NULL)
		+ (SELECT count(*) FROM open_intents WHERE intent_id = 'pi_1' AND attempts = 1 AND last_error IS NULL)`); n != 2 {
		t.Errorf("%d of the two that hang are as they were taken", n)
	}
}

// TestARoundEnds: it leaves what has fallen due since it began.
func TestARoundEnds(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.fillQueues(t, 3)
	run := h.eventWorker().start()
	first := time.Now().Add(-24*time.Hour + 90*time.Second) // between the first and the second
	events, err := run.events().due(t.Context(), &first)
	if err != nil || len(events) != 1 {
		t.Errorf("events of %v are due (%v), want one", events, err)
	}
	intents, err := run.openIntents().due(t.Context(), &first)
	if err != nil || len(intents) != 1 {
		t.Errorf("%v are due (%v), want one", intents, err)
	}
	done, _, err := workOnce(t.Context(), run, queue[int]{
		due: func(ctx context.Context, before *time.Time) ([]int, error) {
			if now, err := run.inbox.now(ctx); err != nil || before == nil || !before.Before(now) {
				t.Errorf("a round asks for what was due at %v, and now it is %v (%v)", before, now, err)
			}
			return nil, nil
		},
	})
	if done != 0 || err != nil {
		t.Errorf("a round without work has done %d, %v", done, err)
	}
}

// TestAWorkerThatStopsReleasesWhatHangs: it goes on with what it has begun for
// as long as it may, and then leaves it to another process, at once.
func TestAWorkerThatStopsReleasesWhatHangs(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.fillQueues(t, 2)
	gates := map[string]chan struct{}{"1": make(chan struct{}), "2": make(chan struct{})}
	defer close(gates["1"])
	for n, gate := range gates {
		h.fake.Script(
			fakestripe.Fault{Kind: fakestripe.Delayed, HoldBefore: gate, Match: fakestripe.Match{Method: "GET", Path: "/v1/charges/ch_" + n}},
			fakestripe.Fault{Kind: fakestripe.Delayed, HoldBefore: gate, Match: fakestripe.Match{Path: "/v1/payment_intents/pi_" + n + "/cancel"}},
		)
	}
	sends := len(h.fake.Ledger())
	w := h.patientWorker(t)
	w.Drain = 5 * time.Second
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); w.Run(ctx) }()
	waiting, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	if err := h.fake.WaitSends(waiting, sends+4, func(fakestripe.Send) bool { return true }); err != nil {
		t.Fatal(err)
	}
	cancel()
	close(gates["2"]) // only now: what has begun goes on
	<-ended
	if got := h.left(t); got != [2]int{1, 1} {
		t.Errorf("%v wait", got)
	}
	if n := number(t, h, `SELECT (SELECT count(*) FROM stripe_events WHERE object_id = 'ch_1' AND run_after <= now() AND last_error LIKE '%canceled')
		+ (SELECT count(*) FROM open_intents WHERE intent_id = 'pi_1' AND run_after <= now() AND last_error LIKE '%canceled')`); n != 2 {
		t.Errorf("%d of the two that hang were given up, and are due at once", n)
	}
}

// TestAShutdownCutsNoTakeOff: nobody would release what it took.
func TestAShutdownCutsNoTakeOff(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	c := newCrew(ctx, time.Hour)
	defer c.wait()
	taken := 0
	q := queue[int]{
		due: func(context.Context, *time.Time) ([]int, error) { return []int{1, 2}, nil },
		take: func(ctx context.Context, _ int) (task, error) {
			cancel()
			taken++
			if ctx.Err() != nil {
				t.Error("it was cut off")
			}
			return nil, nil
		},
	}
	if err := q.giveTo(ctx, c, nil); err == nil || taken != 1 {
		t.Errorf("%d were taken (%v), want one, and none after the end", taken, err)
	}
	if err := c.working.Err(); err != nil {
		t.Errorf("the tasks have ended: %v", err)
	}
}
