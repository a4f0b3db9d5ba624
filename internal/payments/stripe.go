package payments

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	stripe "github.com/stripe/stripe-go/v76"
)

// Stripe charges cards. It is safe for concurrent use. A process needs only
// one, because a refused API key concerns all its requests.
type Stripe struct {
	backend       *stripe.BackendImplementation
	key           string // the API key
	timeout       time.Duration
	saved500After time.Duration
	guard         *keyGuard
	throttle      *throttle
	tiers         []answerTier
	log           *slog.Logger
	metrics       *metrics
}

// NewStripe returns a Stripe. It sends nothing yet. The error is one sentence
// for the person who configures the program, and doesn't quote the key.
func NewStripe(config Config) (*Stripe, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	metrics, err := newMetrics(config.Metrics)
	if err != nil {
		return nil, fmt.Errorf("registering the metrics of Stripe: %w", err)
	}
	tiers := newAnswerTiers()
	return &Stripe{
		backend:       newBackend(config, tiers),
		tiers:         tiers,
		key:           config.Key,
		timeout:       config.Timeout,
		saved500After: config.Saved500After,
		guard:         newKeyGuard(config.RefusedPause, metrics),
		throttle:      newThrottle(config),
		log:           cmp.Or(config.Logger, slog.New(slog.DiscardHandler)),
		metrics:       metrics,
	}, nil
}

// newBackend returns stripe-go without everything that it does on its own: no
// retries (they outlast a lease, and sleep through a canceled context), no
// telemetry, no logs, no redirects, no shared client.
func newBackend(config Config, tiers []answerTier) *stripe.BackendImplementation {
	transport := config.Transport
	if transport == nil {
		transport = newTransport(config.Timeout)
	}
	backend := stripe.GetBackendWithConfig(stripe.APIBackend, &stripe.BackendConfig{
		EnableTelemetry: new(false),
		HTTPClient: &http.Client{
			Transport:     onceTransport{next: transport, tiers: tiers},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		LeveledLogger:     &stripe.LeveledLogger{Level: stripe.LevelNull},
		MaxNetworkRetries: new(int64(0)),
		URL:               new(cmp.Or(config.URL, stripeURL)),
	})
	return backend.(*stripe.BackendImplementation) //nolint:forcetypeassert // nothing else is ever returned
}

// Live reports whether the API key moves real money.
func (s *Stripe) Live() bool { return isLive(s.key) }

// Realm returns "live" or "test", by the mode of the API key. The engine stores
// it with every idempotency key, so that no process works on keys of the other
// mode.
func (s *Stripe) Realm() string { return modeName(s.Live()) }

func modeName(live bool) string {
	if live {
		return "live"
	}
	return "test"
}
