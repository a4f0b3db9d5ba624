package pgserver

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// isPostmaster reports whether pid is a Postgres that works on the folder data.
// A postmaster's working directory is its data folder. A zombie has none, and
// is no postmaster any more.
func isPostmaster(_ context.Context, pid int, data string) bool {
	cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	if err != nil {
		return false
	}
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return err == nil && strings.HasPrefix(string(name), "postgres") && cwd == filepath.Clean(data)
}
