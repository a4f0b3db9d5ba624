package phases

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The limits on attempts, as the label of phases_busy_total.
const (
	limitProcess = "process"
	limitAccount = "account"
	limitDoor    = "door"
)

// metrics are the engine's, named phases_….
type metrics struct {
	points   *prometheus.CounterVec
	calls    *prometheus.HistogramVec
	parked   *prometheus.CounterVec
	inFlight prometheus.Gauge
	busy     *prometheus.CounterVec
	fenced   prometheus.Counter
	doubts   prometheus.Counter
	claims   prometheus.Counter
	gathered prometheus.Histogram
	parted   prometheus.Counter
	renewed  prometheus.Counter
	givenUp  prometheus.Counter

	// Set by the completer.
	completed *prometheus.CounterVec
	reaped    prometheus.Counter
	// These have no labels. They are vectors because an empty vector is not
	// shown.
	unfinished, parkedNow, oldest *prometheus.GaugeVec
}

func newMetrics(registry prometheus.Registerer) *metrics {
	m := &metrics{
		points: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "phases_recovery_points_total", Help: "Recovery points reached by committed transactions.",
		}, []string{"flow", "recovery_point"}),
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "phases_foreign_call_seconds", Help: "Time of foreign calls, by how they ended.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20},
		}, []string{"flow", "how", "result"}),
		parked: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "phases_parked_total", Help: "Keys parked for a person, by reason.",
		}, []string{"reason"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "phases_in_flight", Help: "Attempts that this process is running.",
		}),
		busy: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "phases_busy_total", Help: "Requests refused because as many attempts were in flight as may be, in this process or for their account, or because too many waited for the database (door).",
		}, []string{"limit"}),
		fenced: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "phases_fenced_total", Help: "Attempts that found their key in other hands and wrote nothing.",
		}),
		doubts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "phases_commit_doubts_total", Help: "Transactions whose COMMIT was not answered.",
		}),
		claims: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "phases_claims_total", Help: "Claims of keys that an earlier attempt left behind.",
		}),
		gathered: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "phases_gathered_transactions", Help: "Transactions that shared a COMMIT, for each COMMIT that was shared.",
			Buckets: []float64{2, 4, 8, 16, 32},
		}),
		parted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "phases_parted_groups_total", Help: "COMMITs that were to be shared, until a statement failed and each transaction ran alone.",
		}),
		renewed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "phases_renewed_leases_total", Help: "Leases that were renewed because a foreign call lasted.",
		}),
		givenUp: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "phases_calls_given_up_total", Help: "Foreign calls that were given up because their lease could not be renewed.",
		}),
		completed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "phases_completer_keys_total", Help: "Keys that the completer worked on, by how its attempt ended.",
		}, []string{"result"}),
		reaped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "phases_reaped_total", Help: "Finished keys whose answers were reaped.",
		}),
		unfinished: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "phases_unfinished_keys", Help: "Keys that are neither finished nor parked.",
		}, nil),
		parkedNow: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "phases_parked_keys", Help: "Keys that wait for a person.",
		}, nil),
		oldest: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "phases_oldest_unfinished_seconds", Help: "Age of the oldest key that is neither finished nor parked.",
		}, nil),
	}
	for _, limit := range []string{limitProcess, limitAccount, limitDoor} {
		m.busy.WithLabelValues(limit) // 0 until it happens, so that a first one is seen to rise
	}
	if registry != nil {
		registry.MustRegister(m.points, m.calls, m.parked, m.inFlight, m.busy, m.fenced, m.doubts, m.claims, m.gathered, m.parted, m.renewed, m.givenUp,
			m.completed, m.reaped, m.unfinished, m.parkedNow, m.oldest)
	}
	return m
}

// showCounts sets the gauges that alerts look at. A process that has counted
// nothing shows none of them: zeros would say that all is well.
func (m *metrics) showCounts(unfinished, parked int, oldest float64) {
	m.unfinished.WithLabelValues().Set(float64(unfinished))
	m.parkedNow.WithLabelValues().Set(float64(parked))
	m.oldest.WithLabelValues().Set(oldest)
}

// hideCounts removes the gauges after a count that failed, and while there is no
// realm, whose keys are counted: old values would hide what has happened since,
// and zeros that keys wait. They are removed rather than set to NaN, so that one
// alert on their absence covers these and a completer that doesn't run.
func (m *metrics) hideCounts() {
	m.unfinished.Reset()
	m.parkedNow.Reset()
	m.oldest.Reset()
}

// observeCall observes one foreign call.
func (m *metrics) observeCall(flow, how string, err error, took time.Duration) {
	result := "definitive"
	switch {
	case errors.Is(err, ErrNothingFound):
		result = "nothing_found"
	case err != nil:
		result = classify(err).Class.String()
	}
	m.calls.WithLabelValues(flow, how, result).Observe(took.Seconds())
}
