// Package sandbox runs everything on one machine: a Postgres of its own, a fake
// Stripe, the API and the completer.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
)

// flags are the command line of the sandbox.
type flags struct {
	Data            string        `help:"Folder that keeps everything: database, payments, API keys." default:".sandbox" env:"SANDBOX_DATA"`
	Listen          string        `help:"Address of the public API." default:"127.0.0.1:8080" env:"SANDBOX_LISTEN"`
	Admin           string        `help:"Address of the API for operators: /healthz, /readyz, /metrics." default:"127.0.0.1:9090" env:"SANDBOX_ADMIN"`
	Stripe          string        `help:"Address of the fake Stripe." default:"127.0.0.1:12111" env:"SANDBOX_STRIPE"`
	DatabaseURL     string        `help:"Use this Postgres instead of one of the sandbox's own; its schema is brought up to date." env:"DATABASE_URL" placeholder:"URL"`
	ShutdownTimeout time.Duration `help:"How long Ctrl-C waits for requests that run." default:"5s" env:"SHUTDOWN_TIMEOUT"`
	LogFormat       string        `help:"Form of the log on stderr: ${enum}." enum:"text,json" default:"text" env:"LOG_FORMAT"`
}

const description = `Rocket Rides on one machine: Postgres, a fake Stripe, the API and the completer.

Every other setting of the API and the completer, such as LEASE or STRIPE_TIMEOUT, is taken from the environment. ` +
	`STRIPE_API_KEY and STRIPE_URL are ignored: the sandbox never charges a real card.`

// Validate is called by kong, for which its error is wrong usage.
func (f *flags) Validate() error {
	for flag, address := range map[string]string{"listen": f.Listen, "admin": f.Admin, "stripe": f.Stripe} {
		if _, _, err := net.SplitHostPort(address); err != nil {
			return fmt.Errorf("--%s needs HOST:PORT: %w", flag, err)
		}
	}
	if f.Data == "" || f.ShutdownTimeout <= 0 {
		return errors.New("--data must not be empty, and --shutdown-timeout must be positive")
	}
	return nil
}

// Run runs the sandbox and returns the exit code when everything has ended.
// args are the arguments without the program's name. The sandbox starts this
// program once more for each of its children; in that process Run runs the
// child.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 1 && args[0] == childArgument {
		return runChild(ctx, args[1], args[2:])
	}
	var f flags
	exited := -1
	parser, err := kong.New(&f, kong.Name("sandbox"), kong.Description(description), kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { exited = code }))
	if err == nil {
		_, err = parser.Parse(args)
	}
	if exited >= 0 {
		return exited // after --help
	}
	if err != nil {
		fmt.Fprintf(stderr, "sandbox: %v\nRun sandbox --help for its usage.\n", err)
		return 2
	}
	if err := untilSignal(ctx, newSandbox(f, stdout, stderr)); err != nil {
		fmt.Fprintf(stderr, "sandbox: %v\n", err)
		return 1
	}
	return 0
}

// errForced means that not everything had the time to end in order.
var errForced = errors.New("stopped without waiting for requests that ran")

// untilSignal runs the sandbox until a signal stops it. The first signal stops
// it in order, and Ctrl-C after that at once. A second SIGTERM does nothing,
// because make and timeout send one SIGTERM twice.
func untilSignal(ctx context.Context, s *sandbox) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // by nohup
		signal.Notify(signals, syscall.SIGHUP)
	}
	// Ctrl-C in a pipe such as `sandbox 2>&1 | tee log` ends tee as well. A
	// write to the pipe must not end the sandbox before everything is stopped.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	force, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	done := make(chan error, 1)
	go func() { done <- s.run(ctx, force) }()
	for {
		select {
		case err := <-done:
			if force.Err() != nil {
				return errForced
			}
			return err
		case sig := <-signals:
			if ctx.Err() == nil {
				s.log.printf("stopping everything; press Ctrl-C again to stop without waiting")
				stop()
			} else if sig == syscall.SIGINT {
				end()
			}
		}
	}
}
