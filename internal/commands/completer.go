package commands

import (
	"context"
	"io"

	"github.com/rocketrides/rocketrides/internal/cli"
)

// completerCommands is the command line of completer.
type completerCommands struct {
	Run  completerRun  `cmd:"" default:"withargs" set:"admin_listen=127.0.0.1:9091" help:"Finish abandoned keys, deliver receipts and callbacks, and reap old keys, as a daemon; this is the default."`
	Once completerOnce `cmd:"" help:"Do one round of the same, for cron, and print what was done."`
	Keys struct {
		List    completerKeysList    `cmd:"" help:"List idempotency keys, the oldest first."`
		Show    completerKeysShow    `cmd:"" help:"Show everything about one key."`
		Retry   completerKeysRetry   `cmd:"" help:"Make a key due now, or all that are parked for a reason; parked ones go back to the completer."`
		Park    completerKeysPark    `cmd:"" help:"Stop an unfinished key until a person decides."`
		Resolve completerKeysResolve `cmd:"" help:"Decide about a parked key. The decision is checked at Stripe, unless --unverified is given."`
	} `cmd:"" help:"Look at idempotency keys, and decide about those that wait for a person."`
	Jobs struct {
		List  completerJobsList  `cmd:"" help:"List receipts and callbacks that are not delivered, the oldest first."`
		Retry completerJobsRetry `cmd:"" help:"Make jobs due now, also dead ones. Each is tried at least once more."`
	} `cmd:"" help:"Look at deferred work, and try again what was given up."`
	Callbacks struct {
		List      completerCallbacksList      `cmd:"" help:"List callbacks and what came of them, the newest first."`
		Endpoints completerCallbacksEndpoints `cmd:"" help:"List the hosts that have failed, are paused or are switched off."`
		Resend    completerCallbacksResend    `cmd:"" help:"Send callbacks once more, under the same id."`
		Enable    completerCallbacksEnable    `cmd:"" help:"Send callbacks again to a host that was switched off."`
	} `cmd:"" help:"Look at callbacks, and send them again."`
	Events struct {
		List  completerEventsList  `cmd:"" help:"List Stripe's events, the newest first, or with --waiting those first that are due first."`
		Sweep completerEventsSweep `cmd:"" help:"Compare Stripe's lists of the last 30 days with the database, and work what differs. It makes up for events that never came."`
	} `cmd:"" help:"Look at Stripe's events, and make up for those that never came."`
	History completerHistory `cmd:"" help:"Print everything that is recorded of a key and its ride, in order: what was asked and answered, decisions, jobs, callbacks and Stripe's events."`
	Audit   completerAudit   `cmd:"" help:"Check the invariants of the live database, and compare it with Stripe's lists. Exit 1 and one line for each finding."`
	Health  health           `cmd:"" set:"admin_listen=127.0.0.1:9091" help:"Exit 0 when the completer on this machine is ready, for container checks."`
}

// Completer runs the program completer, which is a daemon, a cron job and the
// operator's tool, and returns its exit code. args are the arguments without
// the program's name. The daemon ends with ctx, or with SIGTERM or SIGINT.
func Completer(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return cli.Run(ctx, "completer", "Rocket Rides: bring what was abandoned to its end.",
		new(completerCommands), args, cli.Output{Stdout: stdout, Stderr: stderr})
}
