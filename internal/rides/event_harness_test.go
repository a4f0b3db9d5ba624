package rides

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/web"
)

// eventWorker returns a worker of events in this process.
func (p *process) eventWorker() *EventWorker {
	return &EventWorker{
		Pool: p.config.Pool, Engine: p.engine, Stripe: p.stripe, Realm: p.stripe.Realm, Poll: time.Millisecond,
		Logger: slog.New(slog.DiscardHandler),
	}
}

// told are the events that Stripe has made since the last call of told, oldest
// first.
func (h *harness) told(t *testing.T, seen *int) []fakestripe.Event {
	t.Helper()
	all := h.fake.Events()
	fresh := all[*seen:]
	*seen = len(all)
	return fresh
}

// deliver sends an event of the fake's to the API, as Stripe does.
func (h *harness) deliver(t *testing.T, id, shape string) {
	t.Helper()
	body, signature, err := h.fake.SignedEvent(id, shape, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	h.send(t, call{
		method: http.MethodPost, path: "/v1/stripe/events", body: string(body), header: http.Header{"Stripe-Signature": {signature}},
	}).must(t, 200, "")
}

// deliverAll delivers all events that Stripe has made since the last call.
func (h *harness) deliverAll(t *testing.T, seen *int, shape string) {
	t.Helper()
	for _, e := range h.told(t, seen) {
		h.deliver(t, e.ID, shape)
	}
}

// work works all events that wait, once, whenever they are due.
func (h *harness) work(t *testing.T) EventCounts {
	t.Helper()
	return h.workWith(t, h.eventWorker())
}

func (h *harness) workWith(t *testing.T, w *EventWorker) EventCounts {
	t.Helper()
	h.makeEventsDue(t)
	h.exec(t, `UPDATE open_intents SET run_after = now() - interval '1 second'`)
	counts, err := w.Once(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return counts
}

// makeEventsDue makes all events that wait due. A statement that a fault has cut
// off may still run at the server, and hold some of the rows. If both wait for
// each other, the server ends one of them.
func (h *harness) makeEventsDue(t *testing.T) {
	t.Helper()
	for {
		_, err := h.pool.Exec(t.Context(), `UPDATE stripe_events SET run_after = now() - interval '1 second' WHERE worked_at IS NULL`)
		var refused *pgconn.PgError
		if errors.As(err, &refused) && refused.Code == pgerrcode.DeadlockDetected {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
}

// finish completes every key that is due, in this process.
func (h *harness) finish(t *testing.T) {
	t.Helper()
	h.expire(t)
	completer := phases.Completer{Engine: h.engine, Poll: time.Millisecond, Concurrency: 8, Retention: 72 * time.Hour, Tombstones: 30 * 24 * time.Hour}
	if _, err := completer.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// outcomes are what came of all events, by the order in which they came,
// without those that still wait.
func (h *harness) outcomes(t *testing.T) string {
	t.Helper()
	return text(t, h, `SELECT coalesce(string_agg(outcome, ' ' ORDER BY received_at, id), '') FROM stripe_events WHERE worked_at IS NOT NULL`)
}

func text(t *testing.T, h *harness, sql string, args ...any) string {
	t.Helper()
	var found string
	if err := h.pool.QueryRow(t.Context(), sql, args...).Scan(&found); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return found
}

// intentOf returns the id of the only payment intent of a ride.
func (h *harness) intentOf(t *testing.T, key string) string {
	t.Helper()
	var found []string
	for _, intent := range h.fake.PaymentIntents() {
		if intent.Metadata["ride_id"] == rideID(h.visa.AccountID, key) {
			found = append(found, intent.ID)
		}
	}
	if len(found) != 1 {
		t.Fatalf("the ride of %s has the payment intents %v", key, found)
	}
	return found[0]
}

// parkUnknown hails a ride whose charge ends with a 500 that Stripe has saved
// and that comes true later, and parks its key.
func (h *harness) parkUnknown(t *testing.T, key string) {
	t.Helper()
	h.fake.Script(fakestripe.Fault{
		Kind: fakestripe.Saved500WithoutEffect, RollForwardAfter: fakestripe.Duration(time.Minute),
		Match: fakestripe.Match{RideID: rideID(h.visa.AccountID, key)},
	})
	for range 2 {
		h.hailAs(t, h.visa, key).must(t, 503, web.CodePaymentProcessorUnavailable)
	}
	h.exec(t, `UPDATE idempotency_keys SET find_until = now() WHERE key = $1`, key)
	h.hailAs(t, h.visa, key).must(t, 409, web.CodePaymentUnderReview)
	if got := h.key(t, h.visa, key).ParkedReason; got != "stripe_500" {
		t.Fatalf("parked for %q", got)
	}
}

// rollForward lets what was uncertain come true.
func (h *harness) rollForward(t *testing.T) {
	t.Helper()
	if err := h.fake.Advance(2 * time.Minute); err != nil {
		t.Fatal(err)
	}
}

// posts counts the requests that charge a card.
func (h *harness) posts() int {
	n := 0
	for _, send := range h.fake.Ledger() {
		if send.Path == "/v1/payment_intents" {
			n++
		}
	}
	return n
}

// value returns a metric without labels, or with the one given.
func value(t *testing.T, registry *prometheus.Registry, name, label string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if family.GetName() != name || label != "" && !strings.Contains(metric.String(), label) {
				continue
			}
			if metric.GetGauge() != nil {
				return metric.GetGauge().GetValue()
			}
			return metric.GetCounter().GetValue()
		}
	}
	return -1
}

// background runs a worker until the test ends.
func background(t *testing.T, w *EventWorker) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

// untripped changes what no program changes, behind the back of the tripwires.
func (h *harness) untripped(t *testing.T, sql string, args ...any) {
	t.Helper()
	err := pgx.BeginFunc(t.Context(), h.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `SET LOCAL session_replication_role = replica`); err != nil {
			return err
		}
		_, err := tx.Exec(t.Context(), sql, args...)
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}
