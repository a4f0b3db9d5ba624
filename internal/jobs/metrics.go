package jobs

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// countEvery is how often jobs are counted.
const countEvery = 10 * time.Second

// mostCounted is how many jobs of a sort are counted at most. To count more could
// take too long, and then there would be no gauges and no alerts just when the
// most jobs wait.
const mostCounted = 100_000

// metrics are those of jobs and callbacks, named rides_jobs_… and
// rides_callback_….
type metrics struct {
	relayed  prometheus.Counter
	attempts *prometheus.HistogramVec
	ended    *prometheus.CounterVec // callbacks

	// What was counted last. A process that has counted nothing shows none of
	// these: zeros would say that all is well.
	staged, stagedAge, undelivered, undeliveredAge, attemptAge, dead, switchedOff *prometheus.GaugeVec
}

func newMetrics(registry prometheus.Registerer) *metrics {
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, nil)
	}
	m := &metrics{
		relayed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rides_jobs_relayed_total", Help: "Staged jobs that this process has moved into River's table.",
		}),
		attempts: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "rides_jobs_attempt_seconds", Help: "Time of attempts at jobs, by how they ended.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20},
		}, []string{"kind", "result"}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rides_callbacks_ended_total", Help: "Callbacks that this process has brought to their end, by what it was: delivered, gone (410), refused (an address that isn't allowed), or given_up.",
		}, []string{"status"}),
		staged:         gauge("rides_jobs_staged", "Jobs that wait for the relay, counted up to 100,000."),
		stagedAge:      gauge("rides_jobs_oldest_staged_seconds", "Age of the oldest job that waits for the relay, among those that are counted."),
		undelivered:    gauge("rides_jobs_undelivered", "Jobs that are neither done nor dead, counted up to 100,000."),
		undeliveredAge: gauge("rides_jobs_oldest_undelivered_seconds", "Age of the oldest job that is neither done nor dead, among those that are counted."),
		attemptAge:     gauge("rides_jobs_oldest_attempt_seconds", "Age of the oldest attempt that has not ended."),
		dead:           gauge("rides_jobs_dead", "Jobs that were given up and wait for a person, counted up to 100,000."),
		switchedOff:    gauge("rides_callback_endpoints_switched_off", "Hosts of accounts that get no callbacks any more, because they failed for days."),
	}
	for _, ended := range []status{statusDelivered, statusGone, statusRefused, statusGivenUp} {
		m.ended.WithLabelValues(string(ended)) // 0 until it happens, so that a first one is seen to rise
	}
	if registry != nil {
		registry.MustRegister(m.relayed, m.attempts, m.ended, m.staged, m.stagedAge, m.undelivered, m.undeliveredAge, m.attemptAge, m.dead, m.switchedOff)
	}
	return m
}

func (m *metrics) observe(kind, result string, took time.Duration) {
	m.attempts.WithLabelValues(kind, result).Observe(took.Seconds())
}

// backlog is what there is of jobs: how many, and how old the oldest is, in
// seconds.
type backlog struct {
	staged, stagedAge, undelivered, undeliveredAge, attemptAge, dead, switchedOff float64
}

// count sets the gauges that alerts look at, or removes them if it can't count.
func (c *Client) count(ctx context.Context) error {
	now, err := c.readBacklog(ctx)
	for gauge, value := range map[*prometheus.GaugeVec]float64{
		c.metrics.staged: now.staged, c.metrics.stagedAge: now.stagedAge,
		c.metrics.undelivered: now.undelivered, c.metrics.undeliveredAge: now.undeliveredAge,
		c.metrics.attemptAge: now.attemptAge, c.metrics.dead: now.dead, c.metrics.switchedOff: now.switchedOff,
	} {
		if gauge.Reset(); err == nil {
			gauge.WithLabelValues().Set(value)
		}
	}
	return err
}

func (c *Client) readBacklog(ctx context.Context) (now backlog, err error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	err = c.config.Pool.QueryRow(ctx, `
		SELECT staged.n, coalesce(extract(epoch FROM now() - staged.since), 0)::float8,
		       live.n, coalesce(extract(epoch FROM now() - live.since), 0)::float8,
		       coalesce(extract(epoch FROM now() - (SELECT min(attempted_at) FROM river.river_job WHERE state = 'running')), 0)::float8,
		       (SELECT count(*)::float8 FROM (SELECT 1 FROM river.river_job WHERE state IN (`+deadStates+`) LIMIT $1) AS dead)
		FROM (SELECT count(*)::float8 AS n, min(created_at) AS since
		      FROM (SELECT created_at FROM staged_jobs LIMIT $1) AS counted) AS staged,
		     (SELECT count(*)::float8 AS n, min(created_at) AS since
		      FROM (SELECT created_at FROM river.river_job WHERE state IN (`+liveStates+`) LIMIT $1) AS counted) AS live`,
		mostCounted,
	).Scan(&now.staged, &now.stagedAge, &now.undelivered, &now.undeliveredAge, &now.attemptAge, &now.dead)
	if err == nil { // a query of its own, because Citus asks all nodes for it
		err = c.config.Pool.QueryRow(ctx, `
			SELECT count(*)::float8
			FROM callback_endpoints
			WHERE switched_off_at IS NOT NULL`).Scan(&now.switchedOff)
	}
	if err != nil {
		return now, fmt.Errorf("counting jobs: %w", err)
	}
	return now, nil
}
