// Sandbox runs everything on one machine from one command: a Postgres of its own, a fake Stripe, the API and the
// completer. The last three are children of the same binary.
package main

import (
	"context"
	"os"
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == childArgument {
		os.Exit(beChild(context.Background(), os.Args[2], os.Args[3:]))
	}
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}
