// Package command holds the program fakestripe.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/rocketrides/rocketrides/internal/cli"
	"github.com/rocketrides/rocketrides/internal/fakestripe"
)

// commands is the command line of fakestripe.
type commands struct {
	Listen        string        `help:"Address to listen on." default:"127.0.0.1:12111" env:"FAKESTRIPE_LISTEN"`
	Data          string        `help:"Directory that keeps keys, objects and ledger; without it they live in memory." env:"FAKESTRIPE_DATA" placeholder:"DIR"`
	EventsTo      []string      `help:"URL of a webhook endpoint that events are sent to; may be repeated. GET /_fake says how to delay and repeat them." env:"FAKESTRIPE_EVENTS_TO" placeholder:"URL"`
	WebhookSecret string        `help:"Secret that events are signed with." env:"FAKESTRIPE_WEBHOOK_SECRET" secret:"" placeholder:"whsec_…"`
	SettleAfter   time.Duration `help:"When a payment with pm_fake_processing succeeds, by the fake's clock; 0s leaves it to POST /_fake/settle." default:"10s" env:"FAKESTRIPE_SETTLE_AFTER"`
	RateLimit     int           `help:"How many requests are taken within a second; more get a 429 as Stripe's. 0 is no limit." default:"0" env:"FAKESTRIPE_RATE_LIMIT"`
	EndpointLimit int           `help:"How many requests to one endpoint are taken within a second." default:"0" name:"endpoint-rate-limit" env:"FAKESTRIPE_ENDPOINT_RATE_LIMIT"`

	Serve  serve  `cmd:"" default:"1" help:"Serve the fake Stripe; this is the default."`
	Health health `cmd:"" help:"Exit 0 when the fake Stripe on --listen is alive, for container checks."`
}

// Validate refuses settings that make no sense.
func (c *commands) Validate() error {
	if c.SettleAfter < 0 {
		return errors.New("--settle-after must not be negative")
	}
	if c.RateLimit < 0 || c.EndpointLimit < 0 {
		return errors.New("--rate-limit and --endpoint-rate-limit must not be negative")
	}
	if len(c.EventsTo) > 0 && c.WebhookSecret == "" {
		return errors.New("--events-to needs --webhook-secret: events are signed")
	}
	for _, to := range c.EventsTo {
		if address, err := url.Parse(to); err != nil || address.Host == "" {
			return errors.New("--events-to must be the URL of a webhook endpoint")
		}
	}
	return cli.CheckAddress("listen", c.Listen)
}

// Run runs the program fakestripe and returns its exit code: 0 done, 1 failed,
// 2 wrong usage. args are the arguments without the program's name. Serving
// ends with ctx, or with SIGTERM or SIGINT.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return cli.Run(ctx, "fakestripe", "A stateful fake of Stripe's API. GET /_fake documents how to script it.",
		new(commands), args, cli.Output{Stdout: stdout, Stderr: stderr})
}

type health struct{}

// Run fails unless a fake Stripe answers on the address of the flags.
func (health) Run(ctx context.Context, c *commands) error {
	return cli.Health(ctx, c.Listen, "/_fake/healthz")
}

const (
	// shutdownTimeout is how long a stop waits for running requests.
	shutdownTimeout = 5 * time.Second

	// writeTimeout bounds an answer that a script makes slow on purpose.
	writeTimeout = 15 * time.Minute
)

type serve struct{}

// Run serves a fake Stripe until a signal.
func (serve) Run(ctx context.Context, c *commands, o cli.Output, log *slog.Logger) (err error) {
	ctx, stop := cli.UntilSignaled(ctx)
	defer stop()
	listener, err := cli.Listen(ctx, "listen", c.Listen)
	if err != nil {
		return err
	}
	defer listener.Close() //nolint:errcheck // the HTTP server has closed it, unless it never ran
	fake, err := fakestripe.Open(fakestripe.Options{
		Dir: c.Data, Logger: log, SettleAfter: c.SettleAfter, EventsTo: c.EventsTo, WebhookSecret: c.WebhookSecret,
		Limits: fakestripe.Limits{PerSecond: c.RateLimit, PerEndpoint: c.EndpointLimit},
	})
	if err != nil {
		return fmt.Errorf("opening the fake Stripe: %w", err)
	}
	defer func() { err = errors.Join(err, fake.Close()) }()
	log.InfoContext(ctx, "starting", slog.String("version", cli.Version()))

	server := cli.NewServer(fake, log)
	server.WriteTimeout = writeTimeout
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	fmt.Fprintf(o.Stdout, "fakestripe listens on http://%s; see http://%[1]s/_fake\n", listener.Addr())
	select {
	case err := <-failed:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
		return shutDown(context.WithoutCancel(ctx), server, fake)
	}
}

// shutDown waits for running requests. Those that a script still holds after
// shutdownTimeout are cut off, as in a crash.
func shutDown(ctx context.Context, server *http.Server, fake *fakestripe.Server) error {
	ctx, cancel := context.WithTimeout(ctx, shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(ctx); err == nil {
		return nil
	}
	return errors.Join(fake.Close(), server.Close())
}
