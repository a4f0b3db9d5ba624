package rides

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rocketrides/rocketrides/internal/web"
	"github.com/rocketrides/rocketrides/proof/wire"
)

// failLate hails a ride of a key with a callback, and cancels it. Then, at
// Stripe, its refund fails and its charge is contested, and events tell of
// both.
func (h *harness) failLate(t *testing.T, key string, seen *int) {
	t.Helper()
	body := strings.TrimSuffix(aRide, "}") + `,"callback_url":"https://example.com/hook"}`
	ride := h.send(t, call{method: "POST", path: "/v1/rides", body: body, key: key, as: h.visa}).must(t, 201, "").ride
	h.send(t, call{method: "POST", path: "/v1/rides/" + ride.ID + "/cancel", key: key + "/c", as: h.visa}).must(t, 200, "")
	refunds := h.fake.Refunds()
	err := h.fake.ChangeRefund(refunds[len(refunds)-1].ID, "failed")
	if err == nil {
		err = h.fake.Dispute(h.intentOf(t, key), "needs_response")
	}
	if err != nil {
		t.Fatal(err)
	}
	h.deliverAll(t, seen, "snapshot")
}

var full = flag.Bool("full", false, "run every cut and order of events instead of a third of them")

// TestEveryCutOfAnEvent cuts or holds the worker's connection to Postgres at
// each message in turn, while it works events that change a ride. Another
// worker takes over, also while the first one is held. Each effect is there
// once.
func TestEveryCutOfAnEvent(t *testing.T) {
	t.Parallel()
	const want = "canceled failed 2350 disputed blocked; 201 callback,callback,callback,receipt,receipt ride.created,ride.refund_failed"
	const atLeast = 30 // messages that work the events
	step := 3          // of the five faults, at least one strikes each message
	if *full {
		step = 1
	}
	for i, kind := range []wire.Kind{wire.CutBefore, wire.CutAfter, wire.CutSent, wire.HoldBefore, wire.HoldAfter} {
		first := i%step + 1
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			h, seen := newHarness(t), 0
			other := h.startProcess(t, nil)
			for k := first; ; k += step {
				key := fmt.Sprint("k", k)
				h.failLate(t, key, &seen)
				uncut := h.cutEvents(t, other, k, kind)
				for range 3 { // an event waits if another one changes its ride meanwhile
					h.workWith(t, other.eventWorker())
				}
				if got := h.state(t, key); got != want {
					t.Fatalf("message %d: the ride is %q, want %q", k, got, want)
				}
				if n := number(t, h, `SELECT count(*) FROM stripe_events WHERE worked_at IS NULL`); n != 0 {
					t.Fatalf("message %d: %d events wait", k, n)
				}
				if uncut {
					if k <= atLeast {
						t.Errorf("there is no message %d, want at least %d messages", k, atLeast)
					}
					t.Logf("every message from %d to %d, in steps of %d", first, k-step, step)
					return
				}
			}
		})
	}
}

// TestACutTellsAPerson cuts the connection at each of the messages with which a
// worker records what a person must know, so that Postgres does what it is asked
// and the answer is lost. Alerts look at counters, so it is counted all the same.
func TestACutTellsAPerson(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		metric, action string
		happen         func(h *harness, key string, seen *int)
	}{
		{"rides_refunds_failed_total", "ride.refund_failed", func(h *harness, key string, seen *int) { h.failLate(t, key, seen) }},
		{"rides_stripe_orphans_total", "stripe.orphan", func(h *harness, key string, seen *int) {
			h.hailAs(t, h.visa, key).must(t, 201, "")
			h.loseRows(t, h.visa)
			h.deliverAll(t, seen, "thin")
		}},
		{"rides_late_successes_total", "ride.charged_late", func(h *harness, key string, seen *int) {
			h.hailAs(t, h.declined, key).must(t, 402, web.CodeCardDeclined)
			h.told(t, seen)
			intents := h.fake.PaymentIntents()
			h.pay(t, intents[len(intents)-1].ID)
			h.deliverAll(t, seen, "thin")
		}},
	} {
		t.Run(c.action, func(t *testing.T) {
			t.Parallel()
			h, seen := newHarness(t), 0
			for k := range 8 {
				c.happen(h, fmt.Sprint("k", k), &seen)
				h.makeEventsDue(t)
				h.wire.Plan(cutBehind(c.action, k))
				told := h.tellCount(t, c.metric)
				h.wire.Plan(wire.Nothing)
				h.wire.Wait()
				for range 2 {
					h.makeEventsDue(t)
					told += h.tellCount(t, c.metric)
				}
				if told < 1 || told > 2 {
					t.Errorf("message %d: a person was told %v times", k, told)
				}
			}
		})
	}
}

// cutBehind returns a plan that cuts the k-th message from the one on that has a
// word in it, once the server has done what it says.
func cutBehind(word string, k int) wire.Plan {
	at := -1
	return func(n int, message []byte) wire.Fault {
		if at < 0 && bytes.Contains(message, []byte(word)) {
			at = n + k
		}
		if n == at {
			return wire.Fault{Kind: wire.CutAfter}
		}
		return wire.Fault{}
	}
}

// tellCount works all events that are due, and returns what a metric counts.
func (h *harness) tellCount(t *testing.T, metric string) float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	w := h.eventWorker()
	w.Metrics, w.orphanAge = registry, time.Nanosecond
	_, _ = w.Once(t.Context()) // it may be cut off
	return value(t, registry, metric, "")
}

// cutEvents works all events that wait with a fault at the k-th message, and
// reports whether there were fewer.
func (h *harness) cutEvents(t *testing.T, other *process, k int, kind wire.Kind) (uncut bool) {
	t.Helper()
	h.makeEventsDue(t)
	held, release, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var once sync.Once
	h.wire.Plan(wire.On(k, wire.Fault{Kind: kind, Hold: func() { once.Do(func() { close(held) }); <-release }}))
	w := h.eventWorker()
	go func() { defer close(ended); _, _ = w.Once(context.WithoutCancel(t.Context())) }() // what it says may be wrong
	select {
	case <-held:
		h.workWith(t, other.eventWorker())
	case <-ended:
	}
	close(release)
	<-ended
	uncut = h.wire.Messages() < k
	h.wire.Plan(wire.Nothing)
	h.wire.Wait()
	return uncut
}
