package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/rocketrides/rocketrides/internal/cli"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/postgres"
	"github.com/rocketrides/rocketrides/internal/rides"
)

// apiFlags are the command line of api.
type apiFlags struct {
	cli.LogFlags
	Serve    serveFlags    `cmd:"" default:"withargs" help:"Serve the API; this is what happens without a command."`
	Migrate  databaseFlags `cmd:"" help:"Bring the database's schema up to date, and exit."`
	Accounts struct {
		Create accountCreateFlags `cmd:"" help:"Make an account with its first API key, and show its secrets once."`
		List   accountListFlags   `cmd:"" help:"List the accounts."`
	} `cmd:"" help:"Manage accounts."`
	Keys struct {
		Create keyCreateFlags `cmd:"" help:"Make another API key for an account, and show it once."`
		List   keyListFlags   `cmd:"" help:"List an account's API keys."`
		Revoke keyRevokeFlags `cmd:"" help:"Revoke an API key, in force within 30 seconds."`
	} `cmd:"" help:"Manage API keys."`
	Health apiHealthFlags `cmd:"" help:"Exit 0 when the API on this machine is ready, for container checks."`
}

type apiHealthFlags struct {
	AdminListen string `help:"Its admin address." default:"127.0.0.1:9090" env:"ADMIN_LISTEN"`
}

// Validate refuses nonsense as wrong usage.
func (f *apiHealthFlags) Validate() error { return cli.CheckAddress("admin-listen", f.AdminListen) }

// serveFlags are those of api serve.
type serveFlags struct {
	databaseFlags
	stripeFlags
	engineFlags
	adminFlags
	Listen      string `help:"Address of the public API." default:"127.0.0.1:8080" env:"LISTEN"`
	AdminListen string `help:"Address for operators: /healthz, /readyz, /metrics." default:"127.0.0.1:9090" env:"ADMIN_LISTEN"`
	Connections int32  `help:"Most connections to the database. None is held while Stripe is asked." name:"database-connections" default:"12" env:"DATABASE_CONNECTIONS"`
	MaxFare     int64  `help:"Most that one ride may cost, in cents." default:"50000" env:"MAX_FARE"`
	MigrateDB   bool   `help:"Bring the database's schema up to date first." name:"migrate" env:"MIGRATE"`
}

// Validate refuses nonsense as wrong usage.
func (f *serveFlags) Validate() error {
	return errors.Join(
		cli.CheckAddress("listen", f.Listen), cli.CheckAddress("admin-listen", f.AdminListen),
		f.stripeFlags.check(), f.engineFlags.check(f.stripeFlags), f.checkLimits())
}

func (f *serveFlags) checkLimits() error {
	if f.Connections < 1 || f.MaxFare < 1 || f.ShutdownTimeout <= 0 {
		return errors.New("--database-connections, --max-fare and --shutdown-timeout must be positive")
	}
	return nil
}

// API is the program api: it serves the API until ctx ends or SIGTERM or SIGINT
// comes, migrates, or manages accounts. args are the arguments without the
// program's name.
func API(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o := cli.Output{Stdout: stdout, Stderr: stderr}
	var flags apiFlags
	return cli.Run("api", "Rocket Rides: hail a ride, and be charged exactly once.", &flags, args, o, func(parsed *kong.Context) error {
		log := flags.Logger(stderr)
		switch command, _, _ := strings.Cut(parsed.Command(), " <"); command {
		case "migrate":
			return postgres.Migrate(ctx, flags.Migrate.DatabaseURL, log)
		case "accounts create":
			return flags.Accounts.Create.run(ctx, o)
		case "accounts list":
			return flags.Accounts.List.run(ctx, o)
		case "keys create":
			return flags.Keys.Create.run(ctx, o)
		case "keys list":
			return flags.Keys.List.run(ctx, o)
		case "keys revoke":
			return flags.Keys.Revoke.run(ctx, o)
		case "health":
			return cli.Health(ctx, flags.Health.AdminListen, "/readyz")
		default:
			return serve(ctx, &flags.Serve, log)
		}
	})
}

// serve runs the API. Everything that can be wrong with its settings shows
// before it listens.
func serve(ctx context.Context, flags *serveFlags, log *slog.Logger) error {
	ctx, stop := cli.UntilSignaled(ctx)
	defer stop()
	if flags.MigrateDB {
		if err := postgres.Migrate(ctx, flags.DatabaseURL, log); err != nil {
			return err
		}
	}
	registry := newRegistry()
	stripe, err := flags.stripeFlags.open(log, registry)
	if err != nil {
		return err
	}
	pool, err := flags.databaseFlags.open(ctx, "api", flags.Connections, log)
	if err != nil {
		return err
	}
	defer pool.Close()
	engine, err := flags.engine(ctx, pool, stripe, flags.StripeTimeout, log, registry)
	if err != nil {
		return err
	}
	service := rides.NewService(rides.Config{
		Pool: pool, Engine: engine, Stripe: stripe, MaxFare: flags.MaxFare, Logger: log, Metrics: registry,
	})
	return serveBoth(ctx, log, engine, flags.ShutdownTimeout,
		site{flag: "listen", address: flags.Listen, handler: service.Handler()},
		site{flag: "admin-listen", address: flags.AdminListen, handler: adminHandler(registry, ready(pool, service.Draining), flags.Pprof)},
		service.Drain)
}

// site is one address and what it serves.
type site struct {
	flag    string
	address string
	handler http.Handler
}

// serveBoth serves the public and the admin address until ctx ends, and then
// drains: /readyz fails and new keyed requests are refused, while the listener
// still answers; what runs is finished or given back; then the doors close.
func serveBoth(
	ctx context.Context, log *slog.Logger, engine *phases.Engine, grace time.Duration, public, admin site, drain func(),
) error {
	var listeners []net.Listener
	for _, s := range []site{public, admin} {
		listener, err := cli.Listen(ctx, s.flag, s.address)
		if err != nil {
			for _, open := range listeners {
				_ = open.Close()
			}
			return err
		}
		listeners = append(listeners, listener)
	}
	servers := []*http.Server{cli.NewServer(public.handler, log), cli.NewServer(admin.handler, log)}
	failed := make(chan error, len(servers))
	for i, server := range servers {
		go func() { failed <- server.Serve(listeners[i]) }()
	}
	log.InfoContext(ctx, "serving", slog.String("api", listeners[0].Addr().String()), slog.String("admin", listeners[1].Addr().String()))
	select {
	case err := <-failed:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	return shutDown(context.WithoutCancel(ctx), log, engine, grace, drain, servers)
}

// givingBack is the part of a grace that is kept for giving keys back: the
// engine's own limit for that, and a second for closing the doors.
const givingBack = 6 * time.Second

// shutDown ends a process within grace.
func shutDown(
	ctx context.Context, log *slog.Logger, engine *phases.Engine, grace time.Duration, drain func(), servers []*http.Server,
) error {
	start := time.Now()
	log.InfoContext(ctx, "draining", slog.Float64("timeout_seconds", grace.Seconds()))
	drain()
	patient, cancel := context.WithTimeout(ctx, grace-min(grace/2, givingBack))
	defer cancel()
	left := engine.Shutdown(patient)
	closing, cancel := context.WithDeadline(ctx, start.Add(max(grace, time.Since(start)+time.Second)))
	defer cancel()
	var errs []error
	for _, server := range servers {
		if err := server.Shutdown(closing); err != nil {
			errs = append(errs, server.Close())
		}
	}
	log.InfoContext(ctx, "stopped", slog.Int("given_back", left), slog.Float64("seconds", time.Since(start).Seconds()))
	return errors.Join(errs...)
}
