// Package command is the program fakestripe.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/alecthomas/kong"

	"github.com/rocketrides/rocketrides/internal/cli"
	"github.com/rocketrides/rocketrides/internal/fakestripe"
)

// fakestripeFlags are the command line of fakestripe.
type fakestripeFlags struct {
	cli.LogFlags
	Listen      string        `help:"Address to listen on." default:"127.0.0.1:12111" env:"FAKESTRIPE_LISTEN"`
	Data        string        `help:"Directory that keeps keys, objects and ledger; without it they live in memory." env:"FAKESTRIPE_DATA" placeholder:"DIR"`
	SettleAfter time.Duration `help:"When a payment with pm_fake_processing succeeds, by the fake's clock; 0s leaves it to POST /_fake/settle." default:"10s" env:"FAKESTRIPE_SETTLE_AFTER"`

	Serve  struct{} `cmd:"" default:"1" help:"Serve the fake Stripe; this is what happens without a command."`
	Health struct{} `cmd:"" help:"Exit 0 when the fake Stripe on --listen is alive, for container checks."`
}

// Validate refuses nonsense as wrong usage.
func (f *fakestripeFlags) Validate() error {
	if f.SettleAfter < 0 {
		return errors.New("--settle-after must not be negative")
	}
	return cli.CheckAddress("listen", f.Listen)
}

// Run is the program fakestripe: it serves the fake Stripe until the context
// ends or SIGTERM or SIGINT comes, or checks one that runs. args are the
// arguments without the program's name. It returns the exit code: 0 done, 1
// failed, 2 wrong usage.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var flags fakestripeFlags
	o := cli.Output{Stdout: stdout, Stderr: stderr}
	const description = "A stateful fake of Stripe's API. GET /_fake documents how to script it."
	return cli.Run("fakestripe", description, &flags, args, o, func(parsed *kong.Context) error {
		if parsed.Command() == "health" {
			return cli.Health(ctx, flags.Listen, "/_fake/healthz")
		}
		return fakestripeServe(ctx, &flags, o)
	})
}

const (
	// fakestripeGrace is how long a stop waits for requests that run.
	fakestripeGrace = 5 * time.Second

	// fakestripeWrite bounds an answer that a script makes slow on purpose.
	fakestripeWrite = 15 * time.Minute
)

func fakestripeServe(ctx context.Context, flags *fakestripeFlags, o cli.Output) (err error) {
	ctx, stop := cli.UntilSignaled(ctx)
	defer stop()
	listener, err := cli.Listen(ctx, "listen", flags.Listen)
	if err != nil {
		return err
	}
	defer listener.Close() //nolint:errcheck // the HTTP server has closed it, unless it never ran
	log := flags.Logger(o.Stderr)
	fake, err := fakestripe.Open(fakestripe.Options{Dir: flags.Data, Logger: log, SettleAfter: flags.SettleAfter})
	if err != nil {
		return fmt.Errorf("opening the fake Stripe: %w", err)
	}
	defer func() { err = errors.Join(err, fake.Close()) }()

	server := cli.NewServer(fake, log)
	server.WriteTimeout = fakestripeWrite
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	fmt.Fprintf(o.Stdout, "fakestripe listens on http://%s; see http://%[1]s/_fake\n", listener.Addr())
	select {
	case err := <-served:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	return fakestripeStop(context.WithoutCancel(ctx), server, fake)
}

// fakestripeStop lets what runs come to its end. What a script still holds
// after the grace is cut off, as a crash would.
func fakestripeStop(ctx context.Context, server *http.Server, fake *fakestripe.Server) error {
	ctx, cancel := context.WithTimeout(ctx, fakestripeGrace)
	defer cancel()
	if err := server.Shutdown(ctx); err == nil {
		return nil
	}
	return errors.Join(fake.Close(), server.Close())
}
