package sandbox

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/rocketrides/rocketrides/internal/commands"
	"github.com/rocketrides/rocketrides/internal/fakestripe/command"
	"github.com/rocketrides/rocketrides/internal/process"
)

const (
	// stripeKey is no secret: the fake accepts every test key.
	stripeKey = "sk_test_sandbox"

	// webhookSecret is none either: the fake signs its events with it, and
	// listens on this machine only.
	webhookSecret = "whsec_sandbox0123456789abcdef"

	// childArgument, before a program's name, makes this binary that program.
	childArgument = "child"

	// parentPipeFD is the file descriptor of a child's end of the parent pipe:
	// the first one after stdin, stdout and stderr.
	parentPipeFD = 3
)

// A program says how the process of a child is started and stopped.
type program struct {
	name  string
	start func(ctx context.Context) (process.Process, error)

	// output gets what the process writes.
	output *lineWriter

	// grace is how long the process may take to end.
	grace time.Duration

	// address is where people find it, and ready is the URL that answers 200
	// when the process is ready.
	address, ready string
}

// startSelf starts this binary as one of the programs that it contains.
func startSelf(name string, args, env []string, output io.Writer, parentPipe *os.File) func(context.Context) (process.Process, error) {
	return func(ctx context.Context) (process.Process, error) {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("finding this program: %w", err)
		}
		cmd := exec.CommandContext(context.WithoutCancel(ctx), self, append([]string{childArgument, name}, args...)...)
		cmd.Env, cmd.Stdout, cmd.Stderr = env, output, output
		cmd.ExtraFiles = []*os.File{parentPipe} // the first one is parentPipeFD
		return process.Start(cmd, syscall.SIGKILL)
	}
}

// programs are the children, in the order of their start.
func (s *sandbox) programs(a addresses, parentPipe *os.File, databaseURL, smtpURL string) []program {
	// If a variable is set twice, the last value wins: these replace those of
	// the environment.
	env := append(os.Environ(),
		"DATABASE_URL="+databaseURL, "STRIPE_API_KEY="+stripeKey, "STRIPE_URL="+a.stripe.url(),
		"STRIPE_WEBHOOK_SECRET="+strings.TrimSuffix(webhookSecret+","+os.Getenv("STRIPE_WEBHOOK_SECRET"), ","), "FAKESTRIPE_WEBHOOK_SECRET="+webhookSecret,
		"SMTP_URL="+smtpURL, "MAIL_FROM="+mailFrom, "CALLBACK_ALLOW="+callbackAllow(),
		"DATABASE_URL_FILE=", "STRIPE_API_KEY_FILE=", "STRIPE_WEBHOOK_SECRET_FILE=", "FAKESTRIPE_WEBHOOK_SECRET_FILE=", "SMTP_URL_FILE=",
		"SHUTDOWN_TIMEOUT="+s.command.ShutdownTimeout.String())
	self := func(name string, listens []*heldAddress, ready string, args ...string) program {
		output := s.log.writer(name)
		start := startSelf(name, append([]string{"--log-format", string(s.format)}, args...), env, output, parentPipe)
		return program{
			name: name, address: listens[0].hostPort, ready: ready, output: output,
			start: func(ctx context.Context) (process.Process, error) {
				for _, address := range listens {
					address.release()
				}
				return start(ctx)
			},
			// Longer than the program's own bound, so that only a program that
			// hangs is killed.
			grace: s.command.ShutdownTimeout + 2*time.Second,
		}
	}
	return []program{
		self("fakestripe", []*heldAddress{a.stripe}, a.stripe.url()+"/_fake/healthz",
			"--listen", a.stripe.hostPort, "--data", filepath.Join(s.data, "stripe"),
			"--events-to", a.api.url()+"/v1/stripe/events"),
		self("completer", []*heldAddress{a.completer}, a.completer.url()+"/readyz",
			"run", "--admin-listen", a.completer.hostPort),
		self("api", []*heldAddress{a.api, a.admin}, a.admin.url()+"/readyz",
			"serve", "--listen", a.api.hostPort, "--admin-listen", a.admin.hostPort),
	}
}

// callbackAllow is where callbacks may go besides public addresses.
func callbackAllow() string { return cmp.Or(os.Getenv("CALLBACK_ALLOW"), loopback) }

// runChild runs one of the programs in this process, until the program ends or
// the parent pipe does, and returns the exit code.
func runChild(ctx context.Context, name string, args []string) int {
	go func() {
		_, _ = io.Copy(io.Discard, os.NewFile(parentPipeFD, "parent pipe"))
		os.Exit(1)
	}()
	switch name {
	case "api":
		return commands.API(ctx, args, os.Stdout, os.Stderr)
	case "completer":
		return commands.Completer(ctx, args, os.Stdout, os.Stderr)
	case "fakestripe":
		return command.Run(ctx, args, os.Stdout, os.Stderr)
	default:
		fmt.Fprintf(os.Stderr, "the sandbox has no child %q\n", name)
		return 2
	}
}
