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
	"syscall"

	"github.com/rocketrides/rocketrides/internal/process"
)

// fallbackDir holds the files of servers whose account can't reach the folder
// that was asked for. It survives a reboot, and every account can reach it.
const fallbackDir = "/var/tmp"

// openHomeAsRoot makes the folder dir ready for an unprivileged account. If the
// account can't reach dir, dir becomes a link to a folder in fallbackDir.
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
	if h.dir, err = h.moveToFallback(ctx, link, logger); err != nil {
		return home{}, fmt.Errorf("the account that runs Postgres (uid %d) can't reach %s, and its files can't live in %s: %w",
			account.Uid, link, fallbackDir, err)
	}
	logger.InfoContext(ctx, "the account that runs Postgres can't reach the folder; its files live in another one",
		slog.String("folder", link), slog.String("files", h.dir))
	return h, nil
}

// accountFor returns the account that runs the server of dir: the owner of dir
// if that is not root, else postgres, else nobody.
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
	return nil, errors.New("no account to run Postgres under: it refuses to run as root, and this machine has neither postgres nor nobody; run as another user")
}

// own makes the account the owner of path.
func (h home) own(path string) error {
	if h.account == nil {
		return nil
	}
	if err := os.Lchown(path, int(h.account.Uid), int(h.account.Gid)); err != nil {
		return fmt.Errorf("giving %s to the account that runs Postgres: %w", path, err)
	}
	return nil
}

// ownAll makes the account the owner of everything in dir.
func (h home) ownAll(dir string) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, h.own(path))
	})
}

// reachable reports whether the account can write to the home. It tries, since
// permission bits don't say all: there are access lists, and file systems that
// know no root.
func (h home) reachable(ctx context.Context) (bool, error) {
	err := process.Run(h.command(ctx, "/bin/sh", "-c", "test -w ."), orphanSignal)
	exit, exited := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		return true, nil
	case exited && exit.ExitCode() == 1, errors.Is(err, fs.ErrPermission):
		return false, nil
	}
	return false, fmt.Errorf("testing whether the account that runs Postgres can reach %s: %w", h.dir, err)
}

// moveToFallback makes a folder in fallbackDir, named for link, and makes link
// a link to it. If the folder is there already, the link to it was deleted, and
// the folder's contents are deleted as well: a database must not outlive the
// folder that it belongs to.
func (h home) moveToFallback(ctx context.Context, link string, logger *slog.Logger) (string, error) {
	sum := sha256.Sum256([]byte(link))
	dir := filepath.Join(fallbackDir, fmt.Sprintf("rocketrides-%s-%x", filepath.Base(link), sum[:6]))
	old := home{dir: dir, account: h.account}
	if err := old.remove(ctx, logger); err != nil {
		return "", err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	if err := h.own(dir); err != nil {
		return "", err
	}
	// Remove fails unless the folder is empty.
	if err := os.Remove(link); err != nil {
		return "", err
	}
	return dir, os.Symlink(dir, link)
}

// remove removes the home with everything in it. A folder that the account does
// not own is left alone and is an error: anybody may make one in fallbackDir.
func (h home) remove(ctx context.Context, logger *slog.Logger) error {
	stat, err := os.Lstat(h.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if owner, ok := stat.Sys().(*syscall.Stat_t); !ok || !stat.IsDir() || owner.Uid != h.account.Uid {
		return fmt.Errorf("%s is somebody else's; remove it", h.dir)
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
