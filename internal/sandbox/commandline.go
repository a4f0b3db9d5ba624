// Package sandbox runs everything on one machine: a Postgres of its own, a fake
// Stripe, the API, the completer, a mail server with an inbox, and a receiver
// of callbacks.
package sandbox

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/rocketrides/rocketrides/internal/cli"
)

// commandLine is the command line of the sandbox.
type commandLine struct {
	Data string `help:"Folder that keeps everything: database, payments, API keys." default:".sandbox" env:"SANDBOX_DATA"`
	Run  run    `cmd:"" default:"withargs" help:"Run everything until Ctrl-C; this is the default."`
	Env  env    `cmd:"" help:"Print the addresses and keys of the running sandbox as export lines, for eval."`
}

const description = `Rocket Rides on one machine: Postgres, a fake Stripe, the API, the completer, an inbox for its e-mails, and a receiver of its callbacks.

Every other setting of the API and the completer, such as LEASE or STRIPE_TIMEOUT, is taken from the environment. ` +
	`LISTEN, ADMIN_LISTEN, STRIPE_API_KEY, STRIPE_URL, SMTP_URL, MAIL_FROM and the names of files with secrets, such as DATABASE_URL_FILE, are ignored: ` +
	`the sandbox has addresses of its own, never charges a real card and never sends an e-mail to anybody. ` +
	`A STRIPE_WEBHOOK_SECRET is good beside its own. ` +
	`Callbacks may go to this machine, unless CALLBACK_ALLOW says otherwise.`

// Validate refuses a folder that is none.
func (c *commandLine) Validate() error {
	if c.Data == "" {
		return errors.New("--data must not be empty")
	}
	return nil
}

// Run runs the program sandbox and returns its exit code, when everything has
// ended. args are the arguments without the program's name. The sandbox starts
// this program once more for each of its children; in that process Run runs the
// child.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 1 && args[0] == childArgument {
		return runChild(ctx, args[1], args[2:])
	}
	return cli.Run(ctx, "sandbox", description, new(commandLine), args, cli.Output{Stdout: stdout, Stderr: stderr})
}

// run is the command that runs everything.
type run struct {
	Listen          string        `help:"Address of the public API." default:"127.0.0.1:8080" env:"SANDBOX_LISTEN"`
	Admin           string        `help:"Address of the API for operators: /healthz, /readyz, /metrics." default:"127.0.0.1:9090" env:"SANDBOX_ADMIN"`
	Stripe          string        `help:"Address of the fake Stripe." default:"127.0.0.1:12111" env:"SANDBOX_STRIPE"`
	DatabaseURL     string        `help:"Use this Postgres instead of one of the sandbox's own; its schema is brought up to date. A DATABASE_URL that the command env printed is ignored." env:"DATABASE_URL" placeholder:"URL"`
	ShutdownTimeout time.Duration `help:"How long each program may take to end after Ctrl-C; requests that run have half of it, or all but 6s if that is more." default:"5s" env:"SHUTDOWN_TIMEOUT"`

	ignored bool // there was a DATABASE_URL that the command env had printed
}

// Validate refuses settings that make no sense.
func (c *run) Validate() error {
	err := errors.Join(cli.CheckAddress("listen", c.Listen), cli.CheckAddress("admin", c.Admin), cli.CheckAddress("stripe", c.Stripe))
	if c.ShutdownTimeout <= 0 {
		err = errors.Join(err, errors.New("--shutdown-timeout must be positive"))
	}
	return err
}

// Run runs the sandbox until a signal.
func (c *run) Run(ctx context.Context, all *commandLine, o cli.Output, format cli.LogFormat) error {
	return untilSignal(ctx, newSandbox(all.Data, *c, o, format))
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
