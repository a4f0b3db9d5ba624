package payments

import (
	"cmp"
	"errors"
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
	transport     http.RoundTripper
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
	transport := config.Transport
	if transport == nil {
		transport = newTransport()
	}
	return &Stripe{
		backend:       newBackend(cmp.Or(config.URL, StripeURL)),
		transport:     transport,
		tiers:         newAnswerTiers(),
		key:           config.Key,
		timeout:       config.Timeout,
		saved500After: config.Saved500After,
		guard:         newKeyGuard(config.RefusedPause, metrics),
		throttle:      newThrottle(config),
		log:           cmp.Or(config.Logger, slog.New(slog.DiscardHandler)),
		metrics:       metrics,
	}, nil
}

// newBackend returns stripe-go, which makes requests and decodes answers, and
// sends nothing: its own retries outlast a lease and sleep through a canceled
// context, and its client follows redirects.
func newBackend(url string) *stripe.BackendImplementation {
	backend := stripe.GetBackendWithConfig(stripe.APIBackend, &stripe.BackendConfig{
		HTTPClient:        &http.Client{Transport: noTransport{}},
		LeveledLogger:     &stripe.LeveledLogger{Level: stripe.LevelNull},
		MaxNetworkRetries: new(int64(0)),
		URL:               new(url),
	})
	return backend.(*stripe.BackendImplementation) //nolint:forcetypeassert // nothing else is ever returned
}

var errSentByItself = errors.New("stripe-go sends nothing by itself")

// A noTransport is that of stripe-go's own client.
type noTransport struct{}

// RoundTrip implements http.RoundTripper.
func (noTransport) RoundTrip(*http.Request) (*http.Response, error) { return nil, errSentByItself }

// Live reports whether the API key moves real money.
func (s *Stripe) Live() bool { return isLive(s.key) }

// Realm returns the mode of the API key: the realm of an engine whose database
// has no Pin, such as a test's. Programs use Pin.Realm.
func (s *Stripe) Realm() string { return ModeName(s.Live()) }

// ModeName returns "live" or "test".
func ModeName(live bool) string {
	if live {
		return "live"
	}
	return "test"
}
