// Completer brings abandoned rides to their end, as a daemon or from cron. It is
// also the tool with which operators look at rides and decide about them.
package main

import (
	"context"
	"os"

	"github.com/rocketrides/rocketrides/internal/commands"
)

func main() {
	os.Exit(commands.Completer(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}
