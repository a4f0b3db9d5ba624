// Fakestripe serves a stateful fake of Stripe's API.
package main

import (
	"context"
	"os"

	"github.com/rocketrides/rocketrides/internal/fakestripe/command"
)

func main() {
	os.Exit(command.Run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}
