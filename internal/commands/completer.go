package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/alecthomas/kong"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rocketrides/rocketrides/internal/cli"
	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
)

// completerFlags are the command line of completer.
type completerFlags struct {
	cli.LogFlags
	Run  completerRunFlags  `cmd:"" default:"withargs" help:"Finish abandoned keys and reap old ones, as a daemon; this is what happens without a command."`
	Once completerOnceFlags `cmd:"" help:"Do one round of all that, for cron, and print what was done."`
	Keys struct {
		List    keysListFlags    `cmd:"" help:"List idempotency keys, the oldest first."`
		Show    keysShowFlags    `cmd:"" help:"Show all about one key."`
		Retry   keysChangeFlags  `cmd:"" help:"Make a key due now; a parked one goes back to the completer."`
		Park    keysChangeFlags  `cmd:"" help:"Stop an unfinished key until a person decides."`
		Resolve keysResolveFlags `cmd:"" help:"Decide about a parked key. What you say is checked at Stripe."`
	} `cmd:"" help:"Look at idempotency keys, and decide about those that wait for a person."`
	Audit  auditFlags           `cmd:"" help:"Check the invariants of the live database, and compare it with Stripe's list. Exit 1 and one line for each finding."`
	Health completerHealthFlags `cmd:"" help:"Exit 0 when the completer on this machine is ready, for container checks."`
}

type completerHealthFlags struct {
	AdminListen string `help:"Its admin address." default:"127.0.0.1:9091" env:"ADMIN_LISTEN"`
}

// Validate refuses nonsense as wrong usage.
func (f *completerHealthFlags) Validate() error {
	return cli.CheckAddress("admin-listen", f.AdminListen)
}

// workFlags are those of every command that works on keys.
type workFlags struct {
	databaseFlags
	stripeFlags
	engineFlags
	Connections int32 `help:"Most connections to the database. None is held while Stripe is asked." name:"database-connections" default:"6" env:"DATABASE_CONNECTIONS"`
}

// Validate refuses nonsense as wrong usage.
func (f *workFlags) Validate() error {
	if f.Connections < 1 {
		return errors.New("--database-connections must be positive")
	}
	return errors.Join(f.stripeFlags.check(), f.engineFlags.check(f.stripeFlags))
}

// workshop is what works on keys.
type workshop struct {
	pool   *pgxpool.Pool
	stripe *payments.Stripe
	engine *phases.Engine
}

func (f *workFlags) open(ctx context.Context, name string, log *slog.Logger, metrics prometheus.Registerer) (*workshop, error) {
	stripe, err := f.stripeFlags.open(log, metrics)
	if err != nil {
		return nil, err
	}
	pool, err := f.databaseFlags.open(ctx, name, f.Connections, log)
	if err != nil {
		return nil, err
	}
	engine, err := f.engine(ctx, pool, stripe, f.StripeTimeout, log, metrics)
	if err != nil {
		pool.Close()
		return nil, err
	}
	return &workshop{pool: pool, stripe: stripe, engine: engine}, nil
}

// roundFlags say how the completer works.
type roundFlags struct {
	Poll        time.Duration `help:"How long to wait when nothing was due." default:"1s" env:"POLL"`
	Concurrency int           `help:"How many keys are worked on at once." default:"64" env:"CONCURRENCY"`
	Retention   time.Duration `help:"How long a finished key is replayed." default:"72h" env:"RETENTION"`
	Tombstones  time.Duration `help:"How long after that a key is still known as expired." default:"720h" env:"TOMBSTONES"`
}

// Validate refuses nonsense as wrong usage.
func (f *roundFlags) Validate() error {
	if f.Poll <= 0 || f.Concurrency < 1 || f.Retention <= 0 || f.Tombstones <= 0 {
		return errors.New("--poll, --concurrency, --retention and --tombstones must be positive")
	}
	return nil
}

func (f *roundFlags) completer(engine *phases.Engine) *phases.Completer {
	return &phases.Completer{
		Engine: engine, Poll: f.Poll, Concurrency: f.Concurrency, Retention: f.Retention, Tombstones: f.Tombstones,
	}
}

type completerRunFlags struct {
	workFlags
	roundFlags
	adminFlags
	AdminListen string `help:"Address for operators: /healthz, /readyz, /metrics." default:"127.0.0.1:9091" env:"ADMIN_LISTEN"`
}

// Validate refuses nonsense as wrong usage.
func (f *completerRunFlags) Validate() error {
	return errors.Join(f.workFlags.Validate(), f.roundFlags.Validate(), cli.CheckAddress("admin-listen", f.AdminListen))
}

type completerOnceFlags struct {
	workFlags
	roundFlags
	jsonFlags
}

// Validate refuses nonsense as wrong usage.
func (f *completerOnceFlags) Validate() error {
	return errors.Join(f.workFlags.Validate(), f.roundFlags.Validate())
}

// Completer is the program completer: daemon, cron job and operator's tool.
// args are the arguments without the program's name.
func Completer(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o := cli.Output{Stdout: stdout, Stderr: stderr}
	var flags completerFlags
	description := "Rocket Rides: bring what was abandoned to its end."
	return cli.Run("completer", description, &flags, args, o, func(parsed *kong.Context) error {
		log := flags.Logger(stderr)
		switch command, _, _ := strings.Cut(parsed.Command(), " <"); command {
		case "once":
			return flags.Once.run(ctx, o, log)
		case "keys list":
			return flags.Keys.List.run(ctx, o)
		case "keys show":
			return flags.Keys.Show.run(ctx, o)
		case "keys retry":
			return flags.Keys.Retry.run(ctx, o, "retry")
		case "keys park":
			return flags.Keys.Park.run(ctx, o, "park")
		case "keys resolve":
			return flags.Keys.Resolve.run(ctx, o, log)
		case "audit":
			return flags.Audit.run(ctx, o, log)
		case "health":
			return cli.Health(ctx, flags.Health.AdminListen, "/readyz")
		default:
			return flags.Run.run(ctx, log)
		}
	})
}

// run is the daemon.
func (f *completerRunFlags) run(ctx context.Context, log *slog.Logger) error {
	ctx, stop := cli.UntilSignaled(ctx)
	defer stop()
	registry := newRegistry()
	work, err := f.open(ctx, "completer", log, registry)
	if err != nil {
		return err
	}
	defer work.pool.Close()
	listener, err := cli.Listen(ctx, "admin-listen", f.AdminListen)
	if err != nil {
		return err
	}
	var draining atomic.Bool
	server := cli.NewServer(adminHandler(registry, ready(work.pool, draining.Load), f.Pprof), log)
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	log.InfoContext(ctx, "completing", slog.String("admin", listener.Addr().String()))

	done := make(chan struct{})
	go func() { defer close(done); f.completer(work.engine).Run(ctx) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	defer func() { <-done }()
	return shutDown(context.WithoutCancel(ctx), log, work.engine, f.ShutdownTimeout,
		func() { draining.Store(true) }, []*http.Server{server})
}

// run does one round.
func (f *completerOnceFlags) run(ctx context.Context, o cli.Output, log *slog.Logger) error {
	ctx, stop := cli.UntilSignaled(ctx)
	defer stop()
	work, err := f.open(ctx, "completer-once", log, nil)
	if err != nil {
		return err
	}
	defer work.pool.Close()
	counts, err := f.completer(work.engine).Once(ctx)
	if err != nil {
		return err
	}
	return o.Print(f.JSON, counts, fmt.Sprintf("finished %d, released %d, parked %d, lost %d, reaped %d, deleted %d\n",
		counts.Finished, counts.Released, counts.Parked, counts.Lost, counts.Reaped, counts.Deleted))
}
