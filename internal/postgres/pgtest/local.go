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
	server, err := pgserver.Start(ctx, pgserver.Config{
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

	// memoryDir is a file system in memory: a flush costs nothing there, so the
	// server can have the durable settings of production.
	memoryDir = "/dev/shm"

	// enoughSpace is more than the databases of one process need, in bytes.
	enoughSpace = 2 << 30
)

// A folder holds the files of a server. A locked file beside it tells other
// processes that it is in use; the lock ends when this process does.
type folder struct {
	path string
	lock *os.File
}

// newFolder returns a folder in memory if there is enough space, else one among
// the temporary files. First it removes those whose process was killed.
func newFolder() (*folder, error) {
	parent := parentFolder()
	sweep(parent)
	lock, err := os.CreateTemp(parent, folderPrefix+"*.lock")
	if err != nil {
		return nil, err
	}
	f := &folder{path: lock.Name() + ".d", lock: lock}
	// The caller makes the folder after the lock is held, so that no sweep of
	// another process removes it.
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.remove())
	}
	if _, err := os.Stat(lock.Name()); err != nil {
		// Another process swept the file before it was locked.
		_ = lock.Close()
		return newFolder()
	}
	return f, nil
}

func parentFolder() string {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(memoryDir, &stat); err != nil || stat.Bavail*uint64(stat.Bsize) < enoughSpace {
		return os.TempDir()
	}
	probe, err := os.MkdirTemp(memoryDir, folderPrefix)
	if err != nil {
		return os.TempDir()
	}
	_ = os.Remove(probe)
	return memoryDir
}

// remove removes everything, the lock last, so that a later sweep removes what
// can't be removed now. The folder may be a link to one that the server's
// account can reach.
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

// sweep removes the folders in parent whose processes have ended. It ignores
// errors: a folder that stays does no harm.
func sweep(parent string) {
	// Glob fails only if the pattern is malformed.
	locks, _ := filepath.Glob(filepath.Join(parent, folderPrefix+"*.lock"))
	for _, name := range locks {
		lock, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			// It belongs to another account, or is gone by now.
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
