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

// StripeURL is the only address that a live key is sent to.
const StripeURL = "https://api.stripe.com"

// IsStripe reports whether url is that of Stripe's own API, as an empty one is;
// see Config.URL.
func IsStripe(url string) bool { return url == "" || strings.TrimSuffix(url, "/") == StripeURL }

// Config is how to talk to Stripe. It holds the secret key: don't print or log
// it.
type Config struct {
	// Key is the secret or restricted API key: sk_test_…, sk_live_…, rk_test_…
	// or rk_live_….
	Key string
	// URL is the address of the API; empty means Stripe's own. A live key is
	// refused with any other.
	URL string
	// Timeout bounds each request, and so each page of a list, from the wait
	// for its turn to the last byte. A call that makes several requests, such
	// as Charge, ends with its context.
	Timeout time.Duration
	// Saved500After is how long after the first send the card may still be
	// charged although Stripe has saved a 500 as its answer.
	Saved500After time.Duration
	// Rate is how many requests are sent a second, to all endpoints together. To
	// one endpoint it is as much less as Stripe's limit is for one. 0 means
	// Stripe's limits, or none with another URL.
	Rate float64
	// RefusedPause is how long nothing is sent after Stripe has refused the
	// API key; 0 means 5 seconds.
	RefusedPause time.Duration
	// Transport carries the requests; nil means one with time-outs of its own.
	Transport http.RoundTripper
	// Logger gets an error whenever Stripe refuses the API key; nil discards
	// it.
	Logger *slog.Logger
	// Metrics registers rides_stripe_…; nil registers them nowhere.
	Metrics prometheus.Registerer
}

// keyPrefixes are how Stripe's secret and restricted API keys begin.
func keyPrefixes() []string { return []string{"sk_test_", "sk_live_", "rk_test_", "rk_live_"} }

func (c Config) check() error {
	if err := checkKey(c.Key); err != nil {
		return err
	}
	if c.Timeout <= 0 {
		return errors.New("the Stripe time-out must be positive")
	}
	if c.Rate != 0 && !(c.Rate >= 0.1 && c.Rate <= 1e6) {
		return errors.New("the rate of requests to Stripe must be from 0.1 to 1000000 a second")
	}
	if c.URL == "" {
		return nil
	}
	address, err := url.Parse(c.URL)
	if err != nil || address.Host == "" || address.User != nil || address.RawQuery != "" || address.Fragment != "" ||
		address.Scheme != "https" && address.Scheme != "http" {
		return errors.New("the Stripe URL must be a plain http or https address")
	}
	if isLive(c.Key) && !IsStripe(c.URL) {
		return errors.New("a live Stripe key is only ever sent to " + StripeURL + "; leave STRIPE_URL unset, or use a test key with it")
	}
	return nil
}

func checkKey(key string) error {
	known := func(prefix string) bool { return strings.HasPrefix(key, prefix) && len(key) > len(prefix) }
	if !slices.ContainsFunc(keyPrefixes(), known) || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("the Stripe key must be a secret or restricted API key: sk_test_…, sk_live_…, rk_test_… or rk_live_…")
	}
	return nil
}

// isLive reports whether key, a Stripe API key, moves real money.
func isLive(key string) bool {
	return strings.HasPrefix(key, "sk_live_") || strings.HasPrefix(key, "rk_live_")
}

// LiveKey reports whether key, a Stripe API key, moves real money. It returns
// an error if key isn't a secret or restricted API key.
func LiveKey(key string) (bool, error) {
	if err := checkKey(key); err != nil {
		return false, err
	}
	return isLive(key), nil
}
