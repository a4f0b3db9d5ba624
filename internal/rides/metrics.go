package rides

import "github.com/prometheus/client_golang/prometheus"

// waitMetrics are about clients that wait.
type waitMetrics struct {
	waiting prometheus.Gauge
	refused prometheus.Counter
	polls   prometheus.Histogram
}

func newWaitMetrics(registry prometheus.Registerer) *waitMetrics {
	m := &waitMetrics{
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "rides_waiting", Help: "Clients that wait for a ride or an answer, or follow a stream.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rides_waiting_refused_total", Help: "Clients that were answered without waiting because as many waited as may.",
		}),
		polls: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "rides_waiting_poll_seconds", Help: "Time of the polls of the database for all clients that wait.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}),
	}
	if registry != nil {
		registry.MustRegister(m.waiting, m.refused, m.polls)
	}
	return m
}
