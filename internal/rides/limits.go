package rides

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rocketrides/rocketrides/internal/limit"
	"github.com/rocketrides/rocketrides/internal/web"
)

// limits are those of requests.
type limits struct {
	accounts *limit.Buckets // nil for no limit
	refused  *prometheus.CounterVec
}

func newLimits(config Config) *limits {
	l := &limits{refused: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "rides_rate_limited_total", Help: "Requests refused with 429, by whose limit they exceeded: that of their account or, without a valid API key, of their address.",
	}, []string{"limit"})}
	if config.RateLimit != (limit.Rate{}) {
		l.accounts = limit.NewBuckets(config.RateLimit)
	}
	if config.Metrics != nil {
		config.Metrics.MustRegister(l.refused)
	}
	return l
}

// take counts a request of an account, and returns the refusal if there were
// too many. The answer says in its header what is left to the account.
func (l *limits) take(header http.Header, account string) error {
	if l.accounts == nil {
		return nil
	}
	err := web.Limit(header, l.accounts, account)
	if err != nil {
		l.refused.WithLabelValues("account").Inc()
	}
	return err
}

// refuseSender returns the refusal of a sender of too many requests without a
// valid API key.
func (l *limits) refuseSender(cause error) error {
	l.refused.WithLabelValues("address").Inc()
	refusal := web.NewProblemError(web.CodeRateLimited, cause)
	refusal.Problem.Detail = "Too many requests without an active API key have come from your address. " +
		"Wait for the time in Retry-After, then send the request again with your key."
	return refusal
}
