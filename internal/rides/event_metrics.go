package rides

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// eventMetrics are what operators see of Stripe's events.
type eventMetrics struct {
	worked     *prometheus.CounterVec
	orphans    prometheus.Counter
	mismatches prometheus.Counter
	late       prometheus.Counter
	failed     prometheus.Counter
	// These have no labels. They are vectors because an empty vector is not
	// shown: a process that has counted nothing must not say that all is well.
	waiting, oldest, silence, open *prometheus.GaugeVec
}

func newEventMetrics(registry prometheus.Registerer) *eventMetrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, nil)
	}
	m := &eventMetrics{
		worked: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rides_stripe_events_worked_total", Help: "Objects that events of Stripe's are about, each time they were looked at, by what came of it.",
		}, []string{"outcome"}),
		orphans:    counter("rides_stripe_orphans_total", "Payments at Stripe, made for us, that have no ride."),
		mismatches: counter("rides_stripe_mismatches_total", "Payments at Stripe that contradict their ride."),
		late:       counter("rides_late_successes_total", "Payments that succeeded after their ride was declined for good."),
		failed:     counter("rides_refunds_failed_total", "Refunds that failed after somebody was told that the money is back."),
		waiting:    gauge("rides_stripe_events_waiting", "Events of Stripe's that are not worked yet, counted up to 100,000."),
		oldest:     gauge("rides_stripe_events_oldest_seconds", "Age of the oldest event that is not worked yet, among the 100,000 that are due first, without those that wait for a person to decide about a parked key."),
		silence:    gauge("rides_stripe_events_silence_seconds", "Age of the oldest charge since which no event has come; 0 while events come."),
		open:       gauge("rides_open_payment_intents", "Payment intents of declined rides that could still be confirmed at Stripe, counted up to 100,000."),
	}
	if registry != nil {
		registry.MustRegister(m.worked, m.orphans, m.mismatches, m.late, m.failed, m.waiting, m.oldest, m.silence, m.open)
	}
	return m
}

// mostCounted is how many events, and how many payment intents, are counted at
// most. To count more could take too long, and then there would be no gauges and
// no alerts just when the most events wait.
const mostCounted = 100_000

// measure sets the gauges that alerts look at, or removes them if they can't be
// known.
func (w *eventRun) measure(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, inboxTimeout)
	defer cancel()
	var waiting, oldest, silence, open float64
	// The order is that of the one index that has only what waits. An event that
	// waits for a person is no fault of the completer's, and there are alerts on
	// parked keys.
	err := phases.Rerun(ctx, func(ctx context.Context) error {
		return w.Pool.QueryRow(ctx, `
			SELECT count(*), coalesce(extract(epoch FROM now() - min(received_at) FILTER (WHERE last_error IS DISTINCT FROM $3)), 0)::float8, (
			         SELECT count(*)
			         FROM (SELECT 1 FROM open_intents WHERE livemode = $1 LIMIT $2) AS open)
			FROM (
			  SELECT received_at, last_error
			  FROM stripe_events
			  WHERE account_id = '' AND worked_at IS NULL AND livemode = $1
			  ORDER BY run_after
			  LIMIT $2) AS waiting`,
			w.Stripe.Live(), mostCounted, outForAPerson).Scan(&waiting, &oldest, &open)
	})
	realm := w.Realm()
	if err == nil {
		silence, err = w.readSilence(ctx, realm)
	}
	for gauge, value := range map[*prometheus.GaugeVec]float64{
		w.metrics.waiting: waiting, w.metrics.oldest: oldest, w.metrics.silence: silence, w.metrics.open: open,
	} {
		gauge.Reset()
		// Without a realm no charge is ours, and 0 would say that events come.
		if err == nil && (realm != "" || gauge != w.metrics.silence) {
			gauge.WithLabelValues().Set(value)
		}
	}
	if err != nil {
		return fmt.Errorf("counting events: %w", err)
	}
	return nil
}

// readSilence returns the age, in seconds, of the oldest charge of a realm after
// which no event has come. Each charge makes Stripe send one, so it is seconds
// at most if the events get through.
//
// An event may come before its key is finished, but never before its charge was
// sent.
func (w *eventRun) readSilence(ctx context.Context, realm string) (float64, error) {
	var last *time.Time
	var seconds float64
	err := phases.Rerun(ctx, func(ctx context.Context) error {
		return w.Pool.QueryRow(ctx, `
			SELECT (
			  SELECT received_at
			  FROM stripe_events
			  WHERE account_id = '' AND livemode = $1 AND type <> 'sweep'
			  ORDER BY received_at DESC
			  LIMIT 1)`,
			w.Stripe.Live()).Scan(&last)
	})
	if err == nil {
		err = phases.Rerun(ctx, func(ctx context.Context) error {
			return w.Pool.QueryRow(ctx, `
				SELECT extract(epoch FROM now() - finished_at)::float8
				FROM idempotency_keys
				WHERE flow = 'hail' AND response_status = 201 AND realm = $1 AND finished_at IS NOT NULL AND reaped_at IS NULL
				  AND finished_at > coalesce($2::timestamptz, '-infinity') AND first_sent_at > coalesce($2::timestamptz, '-infinity')
				ORDER BY finished_at
				LIMIT 1`,
				realm, last).Scan(&seconds)
		})
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	return seconds, err
}
