package commands

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/rocketrides/rocketrides/internal/cli"
)

// health is the command health of both programs.
type health struct {
	adminAddressFlags
}

// Validate refuses settings that make no sense.
func (c *health) Validate() error { return c.checkAdmin() }

// Run fails unless the program on this machine is ready.
func (c *health) Run(ctx context.Context) error {
	err := cli.Health(ctx, c.AdminListen, "/readyz")
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%w (is it running? --admin-listen names another address)", err)
	}
	return err
}
