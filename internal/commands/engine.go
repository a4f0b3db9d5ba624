package commands

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/cli"
	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/postgres"
	"github.com/rocketrides/rocketrides/internal/rides"
)

// engineFlags are the flags of every command that runs flows: where Postgres
// and Stripe are, and how keys are worked on. The tree of commands may set
// another default for the connections.
type engineFlags struct {
	databaseFlags
	stripeFlags
	Lease          time.Duration `help:"How long a worker may be silent before another may take over. A call to Stripe may last longer: then the worker renews its lease." default:"6s" env:"LEASE"`
	Phases         string        `help:"fused: a key's first attempt commits twice; stepwise: every attempt commits at each recovery point." enum:"fused,stepwise" default:"fused" env:"PHASES"`
	Charges        string        `help:"off stops every charge: new rides are refused, unfinished ones wait. Refunds go on." enum:"on,off" default:"on" env:"CHARGES"`
	BackoffInitial time.Duration `help:"How long the completer leaves a key alone after its first failure." default:"1s" env:"BACKOFF_INITIAL"`
	BackoffMax     time.Duration `help:"Longest time that the completer leaves a failing key alone." default:"60s" env:"BACKOFF_MAX"`
	MaxAttempts    int           `help:"How many failures park a key for a person. Only failures count that the completer meets and that would happen again." default:"10" env:"MAX_ATTEMPTS"`
	MaxRides       int           `help:"How many requests one process works on at once; more are refused, before a key is claimed." default:"10000" env:"MAX_RIDES"`
	MaxPerAccount  int           `help:"How many requests of one account one process works on at once; more are refused, before a key is claimed." name:"max-rides-per-account" default:"1000" env:"MAX_RIDES_PER_ACCOUNT"`
	Connections    int32         `help:"Maximum number of connections to the database, whatever pool_max_conns in its URL says. None is held during a call to Stripe." name:"database-connections" default:"${connections=6}" env:"DATABASE_CONNECTIONS"`
}

// checkEngine refuses settings that make no sense.
func (f engineFlags) checkEngine() error { return errors.Join(f.checkStripe(), f.checkWork()) }

func (f engineFlags) checkWork() error {
	switch {
	case f.Lease < phases.MinLease:
		return fmt.Errorf("--lease (%s) must be at least %s: a shorter one can't be renewed in time", f.Lease, phases.MinLease)
	case f.BackoffInitial <= 0 || f.BackoffMax < f.BackoffInitial:
		return errors.New("--backoff-initial must be positive, and --backoff-max at least as long")
	case f.MaxAttempts < 1 || f.MaxRides < 1 || f.MaxPerAccount < 1 || f.Connections < 1:
		return errors.New("--max-attempts, --max-rides, --max-rides-per-account and --database-connections must be positive")
	}
	return nil
}

// logStart logs the first line of a program: its version, those of its settings
// that charge nobody or not at Stripe, and what else is unusual.
func (f engineFlags) logStart(ctx context.Context, log *slog.Logger, more ...slog.Attr) {
	attributes := append([]slog.Attr{slog.String("version", cli.Version())}, more...)
	if f.Charges == "off" {
		attributes = append(attributes, slog.String("charges", f.Charges))
	}
	log.LogAttrs(ctx, slog.LevelInfo, "starting", append(attributes, f.unusual()...)...)
}

// paused returns the flows that are stopped. Refunds never are.
func (f engineFlags) paused() []string {
	if f.Charges == "off" {
		return rides.ChargeFlows()
	}
	return nil
}

// engineParts is what a command needs to run flows. The caller closes the pool.
type engineParts struct {
	pool   *pgxpool.Pool
	health *postgres.Health // of the pool
	stripe *payments.Stripe
	pin    *payments.Pin // of the Stripe account
	engine *phases.Engine
}

// open opens Stripe and the database, and makes an engine on them. It claims
// nothing, and nothing is sent, before the pin was checked. Postgres shows name
// in pg_stat_activity. metrics may be nil.
func (f engineFlags) open(ctx context.Context, name string, log *slog.Logger, metrics prometheus.Registerer) (engineParts, error) {
	stripe, err := f.openStripe(log, metrics)
	if err != nil {
		return engineParts{}, err
	}
	health := &postgres.Health{}
	pool, err := f.openPool(ctx, postgres.Options{ApplicationName: name, MaxConns: f.Connections, Health: health, Logger: log})
	if err != nil {
		return engineParts{}, err
	}
	distributed, err := postgres.IsDistributed(ctx, pool)
	if err != nil {
		pool.Close()
		return engineParts{}, err
	}
	pin := payments.NewPin(stripe, pool)
	engine, err := phases.NewEngine(ctx, phases.Config{
		Pool:          pool,
		Flows:         rides.Flows(stripe, accounts.Store{Pool: pool}),
		Realm:         pin.Realm,
		Lease:         f.Lease,
		CallTimeout:   f.StripeTimeout,
		Backoff:       phases.Backoff{Initial: f.BackoffInitial, Max: f.BackoffMax},
		MaxAttempts:   f.MaxAttempts,
		Stepwise:      f.Phases == "stepwise",
		OneAccount:    distributed,
		Paused:        f.paused(),
		MaxInFlight:   f.MaxRides,
		MaxPerAccount: f.MaxPerAccount,
		Unconfirmed:   postgres.TookDoubtfulCommit,
		Logger:        log,
		Metrics:       metrics,
	})
	if err != nil {
		pool.Close()
		return engineParts{}, err
	}
	f.showCharges(metrics)
	return engineParts{pool: pool, health: health, stripe: stripe, pin: pin, engine: engine}, nil
}

// showCharges registers the metric by which somebody notices that charges were
// stopped and forgotten.
func (f engineFlags) showCharges(metrics prometheus.Registerer) {
	off := prometheus.NewGauge(prometheus.GaugeOpts{Name: "rides_charges_off", Help: "1 if CHARGES=off stops every charge."})
	if f.Charges == "off" {
		off.Set(1)
	}
	if metrics != nil {
		metrics.MustRegister(off)
	}
}

// eventWorker returns what works Stripe's events. Run needs its Poll and its Drain
// besides. metrics may be nil.
func (p engineParts) eventWorker(log *slog.Logger, metrics prometheus.Registerer) *rides.EventWorker {
	return &rides.EventWorker{
		Pool: p.pool, Engine: p.engine, Stripe: p.stripe, Realm: p.pin.Realm, Logger: log, Metrics: metrics,
	}
}
