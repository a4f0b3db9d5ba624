package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/rocketrides/rocketrides/internal/postgres/pgserver"
)

// openLocal starts a server from this machine's programs.
func openLocal(ctx context.Context) (string, func() error, error) {
	folder, err := newFolder()
	if err != nil {
		return "", nil, fmt.Errorf("making a folder for the server: %w", err)
	}
	server, err := pgserver.StartServer(ctx, pgserver.ServerConfig{
		Dir: folder.path,
		// Every parallel test has a pool.
		Settings: map[string]string{"max_connections": "300"},
	})
	if err != nil {
		return "", nil, errors.Join(err, folder.remove())
	}
	return server.URL(), func() error {
		discard(ctx, server)
		return folder.remove()
	}, nil
}

const (
	folderPrefix = "rocketrides-pgtest-"

	// memory is where a flush to disk costs nothing, so that the server keeps
	// the durable settings that production insists on.
	memory = "/dev/shm"

	// room is what the databases of one process may need, with some to spare.
	room = 2 << 30
)

// A folder holds the files of a server. A lock tells other processes that it is
// in use; it ends with this process, however that ends.
type folder struct {
	path string
	lock *os.File
}

// newFolder makes a folder in memory where there is room, else among the
// temporary files. First it removes those whose process was killed.
func newFolder() (*folder, error) {
	parent := parentFolder()
	sweep(parent)
	lock, err := os.CreateTemp(parent, folderPrefix+"*.lock")
	if err != nil {
		return nil, err
	}
	f := &folder{path: lock.Name() + ".d", lock: lock}
	// The folder appears under a lock that is held, so that nobody sweeps it.
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.remove())
	}
	if _, err := os.Stat(lock.Name()); err != nil {
		// Somebody swept the lock before it was held.
		_ = lock.Close()
		return newFolder()
	}
	return f, nil
}

func parentFolder() string {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(memory, &stat); err != nil || stat.Bavail*uint64(stat.Bsize) < room {
		return os.TempDir()
	}
	probe, err := os.MkdirTemp(memory, folderPrefix)
	if err != nil {
		return os.TempDir()
	}
	_ = os.Remove(probe)
	return memory
}

// remove removes everything, the lock last: what can't be removed now is swept
// later. The folder may have become a link to one that the server's account can
// reach.
func (f *folder) remove() error {
	defer func() { _ = f.lock.Close() }()
	target, err := filepath.EvalSymlinks(f.path)
	if err == nil {
		err = os.RemoveAll(target)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.RemoveAll(f.path); err != nil {
		return err
	}
	return os.Remove(f.lock.Name())
}

// sweep removes the folders in parent whose lock nobody holds, as far as it
// can: they are in nobody's way.
func sweep(parent string) {
	// Glob fails for a malformed pattern only.
	locks, _ := filepath.Glob(filepath.Join(parent, folderPrefix+"*.lock"))
	for _, name := range locks {
		lock, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			// Somebody else's, or gone by now.
			continue
		}
		f := &folder{path: name + ".d", lock: lock}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
			_ = lock.Close()
			continue
		}
		_ = f.remove()
	}
}
