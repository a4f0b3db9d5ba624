package commands

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"github.com/rocketrides/rocketrides/internal/cli"
	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/postgres"
	"github.com/rocketrides/rocketrides/internal/rides"
)

type apiServe struct {
	engineFlags
	callbackFlags
	Listen string `help:"Address of the public API." default:"127.0.0.1:8080" env:"LISTEN"`
	daemonFlags
	limitFlags
	MaxFare             int64  `help:"Largest fare of one ride, in cents." default:"50000" env:"MAX_FARE"`
	MaxWaiting          int    `help:"How many clients may wait (Prefer: wait) or follow a ride's events at once; others are answered at once. 0 lets nobody wait." default:"10000" env:"MAX_WAITING"`
	StripeWebhookSecret string `help:"Signing secrets of Stripe's webhook endpoints, separated by commas; without one, Stripe's events are refused." env:"STRIPE_WEBHOOK_SECRET" secret:"" placeholder:"whsec_…"`
	Migrate             bool   `help:"Bring the database's schema up to date first." env:"MIGRATE"`
}

// Validate refuses settings that make no sense.
func (c *apiServe) Validate() error {
	err := errors.Join(cli.CheckAddress("listen", c.Listen), c.checkDaemon(), c.checkEngine(), c.checkLimits())
	if _, port, _ := net.SplitHostPort(c.Listen); c.Listen == c.AdminListen && port != "0" {
		err = errors.Join(err, errors.New("--listen and --admin-listen must be two addresses"))
	}
	if c.MaxFare < rides.MinimumFare {
		err = errors.Join(err, fmt.Errorf("--max-fare must be at least %d: no ride costs less", rides.MinimumFare))
	}
	if c.MaxWaiting < 0 {
		err = errors.Join(err, errors.New("--max-waiting must not be negative"))
	}
	_, secretErr := c.eventSecrets()
	return errors.Join(err, secretErr)
}

// eventSecrets returns the secrets that Stripe signs its events with.
func (c *apiServe) eventSecrets() ([]string, error) {
	if c.StripeWebhookSecret == "" {
		return nil, nil
	}
	secrets, err := payments.ParseEventSecrets(c.StripeWebhookSecret)
	if err != nil {
		return nil, fmt.Errorf("--stripe-webhook-secret: %w", err)
	}
	return secrets, nil
}

// Run serves the API until a signal. It listens last, so that a mistake in the
// settings shows before anything is served.
func (c *apiServe) Run(ctx context.Context, log *slog.Logger) error {
	ctx, stop := cli.UntilSignaled(ctx)
	defer stop()
	defer makeHeapRoom()()
	c.logStart(ctx, log, c.unusualCallbacks()...)
	if c.Migrate {
		if err := postgres.Migrate(ctx, c.DatabaseURL, log); err != nil {
			return err
		}
	}
	metrics := newRegistry()
	parts, err := c.open(ctx, "api", log, metrics)
	if err != nil {
		return err
	}
	defer parts.pool.Close()
	secrets, err := c.eventSecrets()
	if err != nil {
		return err
	}
	if len(secrets) == 0 {
		log.InfoContext(ctx, "Stripe's events are refused, because STRIPE_WEBHOOK_SECRET is not set")
	}
	service := rides.NewService(rides.Config{
		Pool: parts.pool, Engine: parts.engine, Stripe: parts.stripe, StripeAccount: parts.pin.Account, EventSecrets: secrets,
		Unconfirmed: postgres.TookDoubtfulCommit, MaxFare: c.MaxFare, MaxWaiting: c.MaxWaiting, RateLimit: c.rate(),
		TrustedProxies: c.TrustedProxies, Callbacks: c.guard(), Logger: log, Metrics: metrics,
	})
	d := daemon{engine: parts.engine, log: log, shutdownTimeout: c.ShutdownTimeout, drain: service.Drain}
	defer d.close()
	public, err := d.listen(ctx, "listen", c.Listen, service.Handler()) //nolint:contextcheck // each request brings its own context
	if err != nil {
		return err
	}
	parts.pin.Keep(ctx, log)
	admin, err := d.listen(ctx, "admin-listen", c.AdminListen, c.adminHandler(metrics, parts.ready(service.Draining)))
	if err != nil {
		return err
	}
	log.InfoContext(ctx, "serving", slog.String("api", public), slog.String("admin", admin))
	return d.serve(ctx)
}
