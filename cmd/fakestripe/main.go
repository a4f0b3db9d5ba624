// Command fakestripe is a stateful fake of Stripe's API as a process.
package main

import (
	"context"
	"os"

	"github.com/rocketrides/rocketrides/internal/commands"
)

func main() {
	os.Exit(commands.FakeStripe(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}
