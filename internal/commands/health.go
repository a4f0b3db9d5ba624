package commands

import (
	"context"

	"github.com/rocketrides/rocketrides/internal/cli"
)

// health is the command health of both programs.
type health struct {
	adminAddressFlags
}

// Validate refuses settings that make no sense.
func (c *health) Validate() error { return c.checkAdmin() }

// Run fails unless the program on this machine is ready.
func (c *health) Run(ctx context.Context) error { return cli.Health(ctx, c.AdminListen, "/readyz") }
