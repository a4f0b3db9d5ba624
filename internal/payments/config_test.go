package payments

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestUnsafeConfigIsRefused(t *testing.T) {
	t.Parallel()
	const live = "sk_live_4eC39HqLyjWDarjtT1zdp7dc"
	for name, c := range map[string]struct {
		change func(*Config)
		want   string // empty: accepted
	}{
		"a test key":                       {func(*Config) {}, ""},
		"a restricted test key":            {func(c *Config) { c.Key = "rk_test_1" }, ""},
		"a test key for another URL":       {func(c *Config) { c.URL = "http://127.0.0.1:12111" }, ""},
		"a live key":                       {func(c *Config) { c.Key = live }, ""},
		"a live key for Stripe's own URL":  {func(c *Config) { c.Key, c.URL = live, "https://api.stripe.com/" }, ""},
		"a live key for another URL":       {func(c *Config) { c.Key, c.URL = live, "https://api.stripe.com.example.org" }, "live Stripe key"},
		"a live key without TLS":           {func(c *Config) { c.Key, c.URL = live, "http://api.stripe.com" }, "live Stripe key"},
		"a live key for another port":      {func(c *Config) { c.Key, c.URL = live, "https://api.stripe.com:8443" }, "live Stripe key"},
		"a restricted live key for a fake": {func(c *Config) { c.Key, c.URL = "rk_live_1", "http://127.0.0.1:1" }, "live Stripe key"},
		"no key":                           {func(c *Config) { c.Key = "" }, "secret or restricted"},
		"a publishable key":                {func(c *Config) { c.Key = "pk_test_1" }, "secret or restricted"},
		"only the prefix of a key":         {func(c *Config) { c.Key = "sk_test_" }, "secret or restricted"},
		"a key with a line feed":           {func(c *Config) { c.Key = "sk_test_1\n" }, "secret or restricted"},
		"no time-out":                      {func(c *Config) { c.Timeout = 0 }, "time-out"},
		"a URL with a password":            {func(c *Config) { c.URL = "http://a:dontshow@127.0.0.1" }, "plain http"},
		"a URL with a query":               {func(c *Config) { c.URL = "http://127.0.0.1/?dontshow" }, "plain http"},
		"a URL without a scheme":           {func(c *Config) { c.URL = "127.0.0.1:80" }, "plain http"},
		"a URL of another scheme":          {func(c *Config) { c.URL = "ftp://127.0.0.1" }, "plain http"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := Config{Key: testKey, Timeout: time.Second}
			c.change(&config)
			client, err := NewStripe(config)
			if c.want == "" {
				if err != nil {
					t.Fatalf("got %v, want a client", err)
				}
				wantEqual(t, "live", strings.Contains(config.Key, "_live_"), client.Live())
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want an error about %q", err, c.want)
			}
			if strings.Contains(err.Error(), "4eC39H") || strings.Contains(err.Error(), "dontshow") {
				t.Errorf("the error contains a secret: %v", err)
			}
		})
	}
}

func TestMetricsAreRegisteredOnce(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	config := Config{Key: testKey, Timeout: time.Second, Metrics: registry}
	if _, err := NewStripe(config); err != nil {
		t.Fatalf("making the first client: %v", err)
	}
	if _, err := NewStripe(config); err == nil {
		t.Error("a second client registered the same metrics")
	}
}
