//go:build unix && !linux

package pgserver

import (
	"context"
	"os/exec"
	"strconv"
	"strings"
)

// isPostmaster reports whether pid is a running Postgres server of the folder
// data.
func isPostmaster(ctx context.Context, pid int, data string) bool {
	command, err := exec.CommandContext(ctx, "ps", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && strings.Contains(string(command), "postgres") && strings.Contains(string(command), data)
}
