// Sandbox runs everything on one machine from one command: a Postgres of its
// own, a fake Stripe, the API and the completer. The last three are children of
// the same binary.
package main

import (
	"context"
	"os"

	"github.com/rocketrides/rocketrides/internal/sandbox"
)

func main() {
	os.Exit(sandbox.Run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}
