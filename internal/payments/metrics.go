package payments

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// stripeMeters are the metrics of the calls to Stripe.
type stripeMeters struct {
	results *prometheus.CounterVec
	seconds *prometheus.HistogramVec
	paused  prometheus.Gauge
}

// newStripeMeters returns the metrics, registered where there is a registry.
func newStripeMeters(registry prometheus.Registerer) (*stripeMeters, error) {
	m := &stripeMeters{
		results: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rides_stripe_results_total",
			Help: "Requests to Stripe, by what was asked and by the row of the result table that judged the answer.",
		}, []string{"call", "result"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "rides_stripe_request_seconds",
			Help:    "How long a request to Stripe took, by what was asked.",
			Buckets: []float64{0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20},
		}, []string{"call"}),
		paused: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "rides_stripe_key_refused",
			Help: "1 while nothing is sent because Stripe refuses the API key.",
		}),
	}
	if registry == nil {
		return m, nil
	}
	for _, collector := range []prometheus.Collector{m.results, m.seconds, m.paused} {
		if err := registry.Register(collector); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *stripeMeters) judged(call, row string) { m.results.WithLabelValues(call, row).Inc() }

func (m *stripeMeters) took(call string, d time.Duration) {
	m.seconds.WithLabelValues(call).Observe(d.Seconds())
}

func (m *stripeMeters) refused(yes bool) {
	m.paused.Set(0)
	if yes {
		m.paused.Set(1)
	}
}
