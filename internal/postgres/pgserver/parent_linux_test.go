package pgserver_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

// TestServerDiesWithItsParent kills the process that owns a server with kill
// -9.
func TestServerDiesWithItsParent(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t, nil)
	insertRow(t, server)
	stop(t, server)

	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	owner := exec.CommandContext(t.Context(), self)
	owner.Env = append(os.Environ(), ownerDir+"="+server.Config().Dir)
	output, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatalf("the owner printed %s", line)
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatalf("the server doesn't run: %v", err)
	}

	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait()
	pgtest.Eventually(t, "the server ends", func() bool {
		// A zombie has no working directory.
		_, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "cwd"))
		return err != nil
	})
	wantRow(t, pgtest.Restart(t, server))
}
