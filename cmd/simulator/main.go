// Simulator sends riders to an API: impatient ones, who click twice, lose their
// connection and crash. At the end it says whether any of them paid twice.
package main

import (
	"context"
	"os"

	"github.com/rocketrides/rocketrides/internal/simulator"
)

func main() {
	os.Exit(simulator.Run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}
