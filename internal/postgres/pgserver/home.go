package pgserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// orphanSignal ends the children of a process that was killed, on Linux. It is
// Postgres's immediate shutdown: nothing that was committed is lost, and no
// process is left. On other systems the next start stops what is left.
const orphanSignal = syscall.SIGQUIT

// home is where a server's files live, and the account that it runs under.
type home struct {
	dir string

	// account is nil for the account of this process. As root it is another
	// one, since Postgres refuses to run as root.
	account *syscall.Credential
}

// openHome makes the folder dir ready. As root, its files belong to an
// unprivileged account; see [openHomeAsRoot].
func openHome(ctx context.Context, dir string, logger *slog.Logger) (home, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return home{}, fmt.Errorf("finding %s: %w", dir, err)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return home{}, fmt.Errorf("making the server's folder: %w", err)
	}
	if err := removeDeadLink(dir); err != nil {
		return home{}, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return home{}, fmt.Errorf("making the server's folder: %w", err)
	}
	if os.Geteuid() == 0 {
		return openHomeAsRoot(ctx, dir, logger)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return home{}, fmt.Errorf("finding the server's folder: %w", err)
	}
	return home{dir: dir}, nil
}

// removeDeadLink removes dir if it is a link to a folder that is gone, for
// example because /var/tmp was cleaned up.
func removeDeadLink(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing a link to a folder that is gone: %w", err)
	}
	return nil
}

// create makes a file and replaces the one that is there. It never writes
// through a link: the account could have put one into its folder, and root
// would follow it.
func (h home) create(name string) (*os.File, error) {
	if err := os.Remove(h.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return os.OpenFile(h.path(name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
}

func (h home) path(name string) string { return filepath.Join(h.dir, name) }

// lock reserves the home for one server, until unlock or the end of this
// process. Children don't inherit the lock.
func (h home) lock() (unlock func(), err error) {
	file, err := os.OpenFile(h.path("lock"), os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the server's folder: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("the Postgres server in %s belongs to another process that runs: %w", h.dir, err)
	}
	return func() { _ = file.Close() }, nil
}

// command prepares a program to run as the account, in the home.
func (h home) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = h.dir
	cmd.Env = environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: h.account}
	return cmd
}

// environment is that of this process without Postgres's variables, such as
// PGDATA and PGPORT, and with English messages, because this package reads
// them.
func environment() []string {
	env := []string{"LC_ALL=C"}
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "PG") && !strings.HasPrefix(pair, "LC_ALL=") {
			env = append(env, pair)
		}
	}
	return env
}
