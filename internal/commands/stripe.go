package commands

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rocketrides/rocketrides/internal/cli"
	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
)

// stripeFlags are the flags of every command that can't do without Stripe.
type stripeFlags struct {
	StripeAPIKey string `help:"Stripe's secret key; sk_test_… makes every account a test account." name:"stripe-api-key" required:"" env:"STRIPE_API_KEY" secret:"" placeholder:"sk_test_…"`
	stripeCallFlags
}

func (f stripeFlags) checkStripe() error { return f.checkStripeWith(f.StripeAPIKey) }

func (f stripeFlags) openStripe(log *slog.Logger, metrics prometheus.Registerer) (*payments.Stripe, error) {
	if f.StripeAPIKey == "" {
		return nil, fmt.Errorf("%w: --stripe-api-key (STRIPE_API_KEY) is empty", cli.ErrUsage)
	}
	return f.openStripeWith(f.StripeAPIKey, log, metrics)
}

// unusual returns those of the settings that aren't Stripe's with real money,
// for a log. None is a secret.
func (f stripeFlags) unusual() []slog.Attr {
	var found []slog.Attr
	if live, err := payments.LiveKey(f.StripeAPIKey); err == nil && !live {
		found = append(found, slog.String("stripe_mode", "test"))
	}
	if !payments.IsStripe(f.StripeURL) {
		found = append(found, slog.String("stripe_url", f.StripeURL))
	}
	return found
}

// stripeCallFlags say how Stripe is called.
type stripeCallFlags struct {
	StripeURL     string        `help:"Address of Stripe's API. A live key is only sent to Stripe's own." name:"stripe-url" default:"https://api.stripe.com" env:"STRIPE_URL"`
	StripeTimeout time.Duration `help:"Time-out of one charge or refund at Stripe, and of each request when one is looked up. It may be longer than the lease." default:"20s" env:"STRIPE_TIMEOUT"`
	StripeRate    float64       `help:"Requests a second to Stripe: this process's share of Stripe's limits. 0 means all of them (100, and 25 with a test key; 25 to each endpoint), or no limit with another --stripe-url." default:"0" env:"STRIPE_RATE"`
	Saved500After time.Duration `help:"How long after the first send a 500 that Stripe has saved may still turn out to be a charge. After that the ride waits for a person." name:"saved-500-after" default:"1h" env:"SAVED_500_AFTER"`
}

// checkStripeWith refuses settings that Stripe can't be opened with, as wrong
// usage. It accepts an empty key: kong complains about that one, and names all
// flags that are missing at once.
func (f stripeCallFlags) checkStripeWith(key string) error {
	switch {
	case f.StripeTimeout <= 0:
		return errors.New("--stripe-timeout must be positive")
	case f.StripeTimeout >= phases.DefaultWindow:
		return fmt.Errorf("--stripe-timeout must be shorter than %s: after that nothing is sent again", phases.DefaultWindow)
	case f.StripeRate != 0 && !(f.StripeRate >= 0.1 && f.StripeRate <= 1e6):
		return errors.New("--stripe-rate must be 0, or from 0.1 to 1000000")
	case f.Saved500After < 0:
		return errors.New("--saved-500-after must not be negative")
	case key == "":
		return nil
	}
	_, err := f.openStripeWith(key, nil, nil)
	return err
}

func (f stripeCallFlags) openStripeWith(key string, log *slog.Logger, metrics prometheus.Registerer) (*payments.Stripe, error) {
	return payments.NewStripe(payments.Config{
		Key: key, URL: f.StripeURL, Timeout: f.StripeTimeout, Saved500After: f.Saved500After, Rate: f.StripeRate,
		Logger: log, Metrics: metrics,
	})
}

// isStripeID reports whether id has the form of Stripe's ids of a kind, such as
// "cus_".
func isStripeID(prefix, id string) bool {
	rest, ok := strings.CutPrefix(id, prefix)
	word := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_'
	}
	return ok && rest != "" && len(id) <= 255 && strings.IndexFunc(rest, func(r rune) bool { return !word(r) }) < 0
}
