// Api serves Rocket Rides over HTTP, migrates its database and manages its
// accounts.
package main

import (
	"context"
	"os"

	"github.com/rocketrides/rocketrides/internal/commands"
)

func main() {
	os.Exit(commands.API(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}
