package payments

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the metrics of the requests to Stripe.
type metrics struct {
	results    *prometheus.CounterVec
	seconds    *prometheus.HistogramVec
	waited     *prometheus.HistogramVec
	late       *prometheus.CounterVec
	limited    *prometheus.CounterVec
	keyRefused *keyGauge
}

// newMetrics returns the metrics, registered with registry unless that is nil.
func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		results: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rides_stripe_results_total",
			Help: "Requests to Stripe, by the kind of request and by the row of the result table that judged the answer.",
		}, []string{"call", "result"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "rides_stripe_request_seconds",
			Help:    "How long a request to Stripe took, by the kind of request.",
			Buckets: []float64{0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20},
		}, []string{"call"}),
		waited: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "rides_stripe_wait_seconds",
			Help:    "How long a request to Stripe waited for its turn within this process's share of Stripe's limits.",
			Buckets: []float64{0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10},
		}, []string{"call"}),
		late: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rides_stripe_unsent_total",
			Help: "Requests that were not sent to Stripe, because their turn within this process's share of Stripe's limits came too late.",
		}, []string{"call"}),
		limited: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rides_stripe_limited_total",
			Help: "Requests that Stripe answered with 429 because there were too many.",
		}, []string{"call"}),
		keyRefused: newKeyGauge(),
	}
	for call := range resultTables {
		m.late.WithLabelValues(call) // 0 until it happens, so that a first one is seen to rise
		m.limited.WithLabelValues(call)
	}
	if registry == nil {
		return m, nil
	}
	for _, collector := range []prometheus.Collector{m.results, m.seconds, m.waited, m.late, m.limited, m.keyRefused} {
		if err := registry.Register(collector); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) countResult(call, row string) { m.results.WithLabelValues(call, row).Inc() }

func (m *metrics) observeRequest(call string, d time.Duration) {
	m.seconds.WithLabelValues(call).Observe(d.Seconds())
}

// A keyGauge is 1 while at least one of the causes is there for which nothing is
// sent with the API key.
type keyGauge struct {
	prometheus.GaugeFunc

	causes [2]atomic.Bool
}

// The causes of a keyGauge.
const (
	refusedByStripe = iota
	refusedByUs
)

func newKeyGauge() *keyGauge {
	g := new(keyGauge)
	g.GaugeFunc = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "rides_stripe_key_refused",
		Help: "1 while nothing is sent because Stripe refuses the API key, or because it belongs to another Stripe account.",
	}, func() float64 {
		if g.causes[refusedByStripe].Load() || g.causes[refusedByUs].Load() {
			return 1
		}
		return 0
	})
	return g
}

func (g *keyGauge) set(cause int, there bool) { g.causes[cause].Store(there) }
