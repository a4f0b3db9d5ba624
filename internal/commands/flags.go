package commands

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rocketrides/rocketrides/internal/cli"
	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/postgres"
	"github.com/rocketrides/rocketrides/internal/rides"
)

// databaseFlags say where the database is.
type databaseFlags struct {
	DatabaseURL string `help:"Postgres, as a URL or a libpq keyword string." required:"" env:"DATABASE_URL" placeholder:"URL"`
}

// open opens the database for a program of the given name, and refuses a schema
// that is too old for it.
func (f databaseFlags) open(ctx context.Context, name string, connections int32, log *slog.Logger) (*pgxpool.Pool, error) {
	pool, err := postgres.Open(ctx, postgres.Options{
		URL: f.DatabaseURL, ApplicationName: "rocketrides-" + name, MaxConns: connections, Logger: log,
	})
	if err != nil {
		return nil, err
	}
	if err := postgres.CheckSchema(ctx, pool); err != nil {
		pool.Close()
		return nil, err
	}
	return pool, nil
}

// stripeFlags say how Stripe is asked, and as whom.
type stripeFlags struct {
	StripeAPIKey string `help:"Stripe's secret key; sk_test_… makes every account a test account." name:"stripe-api-key" required:"" env:"STRIPE_API_KEY" placeholder:"sk_test_…"`
	stripeCallFlags
}

// stripeCallFlags say how Stripe is asked.
type stripeCallFlags struct {
	StripeURL     string        `help:"Where Stripe's API is; only a test key may go elsewhere." name:"stripe-url" default:"https://api.stripe.com" env:"STRIPE_URL"`
	StripeTimeout time.Duration `help:"How long one call to Stripe may take; shorter than the lease." default:"20s" env:"STRIPE_TIMEOUT"`
	Saved500After time.Duration `help:"How long after the first send an answer 500 that Stripe has saved may still turn out to have charged. Then the ride waits for a person." name:"saved-500-after" default:"1h" env:"SAVED_500_AFTER"`
}

func (f stripeFlags) check() error { return f.checkAs(f.StripeAPIKey) }

func (f stripeFlags) open(log *slog.Logger, metrics prometheus.Registerer) (*payments.Stripe, error) {
	if f.StripeAPIKey == "" {
		return nil, fmt.Errorf("%w: --stripe-api-key (STRIPE_API_KEY) is empty", cli.ErrUsage)
	}
	return f.openAs(f.StripeAPIKey, log, metrics)
}

// checkAs refuses as wrong usage what no Stripe can be opened with. A key that
// is missing is left to kong, which names all flags that are missing at once.
func (f stripeCallFlags) checkAs(key string) error {
	switch {
	case f.StripeTimeout <= 0:
		return errors.New("--stripe-timeout must be longer than nothing")
	case f.Saved500After < 0:
		return errors.New("--saved-500-after must not be negative")
	case key == "":
		return nil
	}
	_, err := f.openAs(key, nil, nil)
	return err
}

func (f stripeCallFlags) openAs(key string, log *slog.Logger, metrics prometheus.Registerer) (*payments.Stripe, error) {
	return payments.NewStripe(payments.Config{
		Key: key, URL: f.StripeURL, Timeout: f.StripeTimeout, Saved500After: f.Saved500After,
		Logger: log, Metrics: metrics,
	})
}

// engineFlags say how keys are worked on.
type engineFlags struct {
	Lease          time.Duration `help:"How long a worker may be silent before another may take over." default:"30s" env:"LEASE"`
	Phases         string        `help:"fused: a key's first attempt commits twice; stepwise: every attempt commits at each recovery point." enum:"fused,stepwise" default:"fused" env:"PHASES"`
	Charges        string        `help:"off stops every charge: new rides are refused, unfinished ones wait." enum:"on,off" default:"on" env:"CHARGES"`
	BackoffInitial time.Duration `help:"How long the completer leaves a key alone after its first failure." default:"1s" env:"BACKOFF_INITIAL"`
	BackoffMax     time.Duration `help:"How long it does so at the most." default:"60s" env:"BACKOFF_MAX"`
	MaxAttempts    int           `help:"How many failures park a key for a person; only those count that the completer finds and that would happen again." default:"10" env:"MAX_ATTEMPTS"`
	MaxInFlight    int           `help:"How many rides one process works on at once; more are refused." default:"10000" env:"MAX_IN_FLIGHT"`
}

// check refuses nonsense before anything is opened.
func (f engineFlags) check(stripe stripeFlags) error {
	switch {
	case f.Lease <= stripe.StripeTimeout:
		return fmt.Errorf("--lease (%s) must be longer than --stripe-timeout (%s): a call to Stripe must end before its lease does", f.Lease, stripe.StripeTimeout)
	case f.BackoffInitial <= 0 || f.BackoffMax < f.BackoffInitial:
		return errors.New("--backoff-initial must be longer than nothing, and --backoff-max at least as long")
	case f.MaxAttempts < 1 || f.MaxInFlight < 1:
		return errors.New("--max-attempts and --max-in-flight must be at least 1")
	}
	return nil
}

func (f engineFlags) engine(
	ctx context.Context, pool *pgxpool.Pool, stripe *payments.Stripe, timeout time.Duration, log *slog.Logger, metrics prometheus.Registerer,
) (*phases.Engine, error) {
	return phases.NewEngine(ctx, phases.Config{
		Pool:        pool,
		Flows:       rides.Flows(stripe),
		Realm:       stripe.Realm(),
		Lease:       f.Lease,
		CallTimeout: timeout,
		Backoff:     phases.Backoff{Initial: f.BackoffInitial, Max: f.BackoffMax},
		MaxAttempts: f.MaxAttempts,
		Stepwise:    f.Phases == "stepwise",
		Paused:      f.Charges == "off",
		MaxInFlight: f.MaxInFlight,
		Unconfirmed: postgres.TookDoubtfulCommit,
		Logger:      log,
		Metrics:     metrics,
	})
}
