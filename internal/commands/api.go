package commands

import (
	"context"
	"io"

	"github.com/rocketrides/rocketrides/internal/cli"
)

// apiCommands is the command line of api.
type apiCommands struct {
	Serve    apiServe   `cmd:"" default:"withargs" set:"connections=12" help:"Serve the API; this is the default."`
	Migrate  apiMigrate `cmd:"" help:"Bring the database's schema up to date, and exit."`
	Accounts struct {
		Create  apiAccountsCreate  `cmd:"" help:"Make an account with its first API key, and show its secrets once."`
		List    apiAccountsList    `cmd:"" help:"List the accounts."`
		Update  apiAccountsUpdate  `cmd:"" help:"Change an account's e-mail address, Stripe customer or payment method, in force within 30 seconds."`
		Disable apiAccountsDisable `cmd:"" help:"Refuse every API key of an account, within 30 seconds. What it has begun still ends."`
		Enable  apiAccountsEnable  `cmd:"" help:"Accept a disabled account's API keys again."`

		RotateCallbackSecret apiAccountsRotate `cmd:"" help:"Give an account a new secret for its callbacks, and show it once. The former one signs beside it for a while."`
	} `cmd:"" help:"Manage accounts."`
	StripeAccount apiStripeAccount `cmd:"" help:"Show which Stripe account charges go to, or move to another one."`
	Keys          struct {
		Create apiKeysCreate `cmd:"" help:"Make another API key for an account, and show it once."`
		List   apiKeysList   `cmd:"" help:"List an account's API keys."`
		Revoke apiKeysRevoke `cmd:"" help:"Revoke an API key, in force within 30 seconds."`
	} `cmd:"" help:"Manage API keys."`
	Health health `cmd:"" help:"Exit 0 when the API on this machine is ready, for container checks."`
}

// API runs the program api and returns its exit code. args are the arguments
// without the program's name. Serving ends with ctx, or with SIGTERM or SIGINT.
func API(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return cli.Run(ctx, "api", "Rocket Rides: hail a ride, and be charged exactly once.",
		new(apiCommands), args, cli.Output{Stdout: stdout, Stderr: stderr})
}
