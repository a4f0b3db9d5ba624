package web

import (
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// unmatched is the label of requests that match no route.
const unmatched = "unmatched"

// metrics are the metrics of an API.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

func newMetrics(registry prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rides_http_requests_total", Help: "Answers of the public API, by route, status and problem code.",
		}, []string{"route", "status", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "rides_http_request_seconds", Help: "Time from a request's arrival to its answer, without what the client preferred to wait.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"route"}),
	}
	if registry != nil {
		registry.MustRegister(m.requests, m.seconds)
	}
	m.expect(unmatched)
	return m
}

// expect shows that no request of a route was answered with 500, so that a
// first one is seen to rise.
func (m *metrics) expect(route string) {
	m.requests.WithLabelValues(route, strconv.Itoa(http.StatusInternalServerError), string(CodeInternal))
}
