package payments

import (
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// stripeURL is the one place that a live key may be sent to.
const stripeURL = "https://api.stripe.com"

// Config is how to talk to Stripe. It holds the secret key: don't print or log
// it.
type Config struct {
	// Key is the secret or restricted API key: sk_test_…, sk_live_…, rk_test_…
	// or rk_live_….
	Key string
	// URL is where the API is; empty means Stripe's own. A live key goes
	// nowhere else.
	URL string
	// Timeout bounds each call of a method of Stripe, from the dial to the last
	// byte, with all requests that it takes. It must be shorter than the lease
	// on the key that the call is made for.
	Timeout time.Duration
	// Saved500After is how long after the first send a saved 500 may still turn
	// out to have charged.
	Saved500After time.Duration
	// RefusedPause is how long nothing is sent after Stripe has refused the
	// key; 0 means 5 seconds.
	RefusedPause time.Duration
	// Transport carries the requests; nil means one with time-outs of its own.
	Transport http.RoundTripper
	// Logger is told when Stripe refuses the key; nil means nobody is.
	Logger *slog.Logger
	// Metrics registers rides_stripe_…; nil means that nobody reads them.
	Metrics prometheus.Registerer
}

// keyPrefixes are how secret and restricted API keys of Stripe's begin.
func keyPrefixes() []string { return []string{"sk_test_", "sk_live_", "rk_test_", "rk_live_"} }

func (c Config) check() error {
	known := func(prefix string) bool { return strings.HasPrefix(c.Key, prefix) && len(c.Key) > len(prefix) }
	if !slices.ContainsFunc(keyPrefixes(), known) || strings.ContainsFunc(c.Key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("the Stripe key must be a secret or restricted API key: sk_test_…, sk_live_…, rk_test_… or rk_live_…")
	}
	if c.Timeout <= 0 {
		return errors.New("the Stripe time-out must be longer than nothing")
	}
	if c.URL == "" {
		return nil
	}
	address, err := url.Parse(c.URL)
	if err != nil || address.Host == "" || address.User != nil || address.RawQuery != "" || address.Fragment != "" ||
		address.Scheme != "https" && address.Scheme != "http" {
		return errors.New("the Stripe URL must be a plain http or https address")
	}
	if c.live() && strings.TrimSuffix(c.URL, "/") != stripeURL {
		return errors.New("a live Stripe key is only ever sent to " + stripeURL)
	}
	return nil
}

func (c Config) live() bool {
	return strings.HasPrefix(c.Key, "sk_live_") || strings.HasPrefix(c.Key, "rk_live_")
}

// Live tells whether the key moves real money.
func (s *Stripe) Live() bool { return Config{Key: s.key}.live() }
