package pgserver

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/rocketrides/rocketrides/internal/children"
)

// elsewhere is where the files of a server live whose folder its account can't
// reach. It survives a reboot, and every account can reach it.
const elsewhere = "/var/tmp"

// home is where a server's files live, and the account that it runs under.
type home struct {
	dir string

	// account is nil for this process's own. Postgres refuses to run as root.
	account *syscall.Credential
}

// openHome makes the folder dir ready. As root, files belong to an unprivileged
// account; where that account cannot reach dir, dir is a link to a folder in
// /var/tmp that is named for it.
func openHome(ctx context.Context, dir string, logger *slog.Logger) (home, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return home{}, fmt.Errorf("finding %s: %w", dir, err)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return home{}, fmt.Errorf("making the server's folder: %w", err)
	}
	if err := dropDeadLink(dir); err != nil {
		return home{}, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return home{}, fmt.Errorf("making the server's folder: %w", err)
	}
	if os.Geteuid() != 0 {
		if dir, err = filepath.EvalSymlinks(dir); err != nil {
			return home{}, fmt.Errorf("finding the server's folder: %w", err)
		}
		return home{dir: dir}, nil
	}
	return openHomeAsRoot(ctx, dir, logger)
}

// dropDeadLink makes room where the folder behind the link is gone: something
// tidied up /var/tmp.
func dropDeadLink(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing a link to nowhere: %w", err)
	}
	return nil
}

func openHomeAsRoot(ctx context.Context, dir string, logger *slog.Logger) (home, error) {
	account, err := accountFor(dir)
	if err != nil {
		return home{}, err
	}
	link := dir
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return home{}, fmt.Errorf("finding the server's folder: %w", err)
	}
	h := home{dir: dir, account: account}
	if err := h.own(dir); err != nil {
		return home{}, err
	}
	if reachable, err := h.reachable(ctx); reachable || err != nil {
		return h, err
	}
	if h.dir, err = h.move(ctx, link, logger); err != nil {
		return home{}, fmt.Errorf("the account that runs Postgres (uid %d) can't reach %s, and its files can't live in %s: %w",
			account.Uid, link, elsewhere, err)
	}
	logger.InfoContext(ctx, "the account that runs Postgres can't reach the folder; its files live elsewhere",
		slog.String("folder", link), slog.String("files", h.dir))
	return h, nil
}

// accountFor returns who shall run the server of dir: whoever owns what is
// there, else postgres, else nobody.
func accountFor(dir string) (*syscall.Credential, error) {
	stat, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("finding the owner of the server's folder: %w", err)
	}
	if owner, ok := stat.Sys().(*syscall.Stat_t); ok && owner.Uid != 0 {
		return &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		account, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(account.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(account.Gid, 10, 32)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return nil, fmt.Errorf("reading the account %s: %w", name, err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("this machine has neither an account postgres nor nobody to run Postgres under, and it refuses to run as root: run as another user")
}

// own gives path to the account.
func (h home) own(path string) error {
	if h.account == nil {
		return nil
	}
	if err := os.Lchown(path, int(h.account.Uid), int(h.account.Gid)); err != nil {
		return fmt.Errorf("giving %s to the account that runs Postgres: %w", path, err)
	}
	return nil
}

// ownAll gives a whole tree to the account.
func (h home) ownAll(dir string) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, h.own(path))
	})
}

// reachable tries it as the account. Permission bits alone don't tell: there
// are access lists, and file systems that know no root.
func (h home) reachable(ctx context.Context) (bool, error) {
	err := run(h.command(ctx, "/bin/sh", "-c", "test -w ."))
	exit, exited := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		return true, nil
	case exited && exit.ExitCode() == 1, errors.Is(err, fs.ErrPermission):
		return false, nil
	}
	return false, fmt.Errorf("trying whether the account that runs Postgres can reach %s: %w", h.dir, err)
}

// move makes link a link to a folder that the account can reach. Such a folder
// that nothing links to any more belonged to a folder that was deleted; its
// contents go the same way, else a database would outlive everything that
// belongs to it.
func (h home) move(ctx context.Context, link string, logger *slog.Logger) (string, error) {
	sum := sha256.Sum256([]byte(link))
	dir := filepath.Join(elsewhere, fmt.Sprintf("rocketrides-%s-%x", filepath.Base(link), sum[:6]))
	old := home{dir: dir, account: h.account}
	if err := old.discard(ctx, logger); err != nil {
		return "", err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	if err := h.own(dir); err != nil {
		return "", err
	}
	// Only an empty folder makes room for the link.
	if err := os.Remove(link); err != nil {
		return "", err
	}
	return dir, os.Symlink(dir, link)
}

// discard removes the home with everything in it. Anybody may make a folder in
// /var/tmp, so one that is not ours is left alone, and is then in the way.
func (h home) discard(ctx context.Context, logger *slog.Logger) error {
	stat, err := os.Lstat(h.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if owner, ok := stat.Sys().(*syscall.Stat_t); !ok || !stat.IsDir() || owner.Uid != h.account.Uid {
		return fmt.Errorf("%s is somebody else's", h.dir)
	}
	unlock, err := h.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := h.stopLeftover(ctx, logger); err != nil {
		return err
	}
	return os.RemoveAll(h.dir)
}

// create makes a file anew. It never writes through what is there: as root,
// that could be a link which the account put in its own folder.
func (h home) create(name string) (*os.File, error) {
	if err := os.Remove(h.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return os.OpenFile(h.path(name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
}

func (h home) path(name string) string { return filepath.Join(h.dir, name) }

// lock keeps every other process, and every other server of this one, from the
// home, until the process ends or unlock is called. The children don't inherit
// it.
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

// command prepares a program to run as the account, in the home, in a process
// group of its own, so that a terminal's Ctrl-C doesn't reach it.
func (h home) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = h.dir
	cmd.Env = environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: h.account}
	// SIGQUIT is Postgres's immediate shutdown: nothing committed is lost by
	// it, and nothing is left running. What a killed parent leaves behind where
	// the kernel doesn't send it is stopped by the next start.
	children.DieWithParent(cmd.SysProcAttr, syscall.SIGQUIT)
	return cmd
}

// environment leaves out what would point the programs elsewhere (PGDATA,
// PGPORT and their like), and has them speak English: their messages are read
// here.
func environment() []string {
	env := []string{"LC_ALL=C"}
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "PG") && !strings.HasPrefix(pair, "LC_ALL=") {
			env = append(env, pair)
		}
	}
	return env
}
