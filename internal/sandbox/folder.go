package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// lockFolder makes the folder and reserves it for this sandbox, until unlock or
// the end of this process. Other accounts may read the folder, because as root
// the database in it belongs to another account; files with secrets have modes
// of their own.
func lockFolder(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("making the folder of --data: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the folder of --data: %w", err)
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return func() { _ = file.Close() }, nil
	}
	_ = file.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("another sandbox runs in %s; stop it, or choose another folder with --data", dir)
	}
	return nil, fmt.Errorf("locking %s: %w", dir, err)
}

// isLocked reports whether a sandbox has reserved the folder. A file of a
// sandbox that was killed proves nothing, and its process id may be another
// program's by now.
func isLocked(dir string) bool {
	file, err := os.Open(filepath.Join(dir, "lock"))
	if err != nil {
		return false
	}
	defer file.Close() //nolint:errcheck // this also unlocks it
	return errors.Is(syscall.Flock(int(file.Fd()), syscall.LOCK_SH|syscall.LOCK_NB), syscall.EWOULDBLOCK)
}

// writeJSON writes a value to a file that only this account may read. A reader
// sees either the old content or the new one, never a part.
func writeJSON(path string, value any) error {
	fresh := path + ".new"
	file, err := os.OpenFile(fresh, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	encoder := json.NewEncoder(file)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false) // people copy URLs from it
	err = encoder.Encode(value)
	// Without Sync a power cut could leave an empty file at path.
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return os.Rename(fresh, path)
}
