package pgserver_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rocketrides/rocketrides/internal/postgres/pgserver"
)

// TestServerInUnreachableFolder starts servers in a folder whose parent only
// its owner can reach. As root, the server runs under another account, so its
// files live in the fallback folder; for other users nothing changes.
//
//nolint:paralleltest,tparallel // each sub-test needs the state of the one before
func TestServerInUnreachableFolder(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	if err := os.Chmod(parent, 0o700); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(parent, "sandbox", "postgres")

	t.Cleanup(func() { removeLinked(t, dir) })
	first := newServer(t, pgserver.Config{Dir: dir})
	insertRow(t, first)
	stop(t, first)
	if os.Geteuid() != 0 {
		if _, err := os.Readlink(dir); err == nil {
			t.Errorf("%s is a link, although the server's account can reach it", dir)
		}
		return
	}
	target, err := os.Readlink(dir)
	if err != nil || !strings.HasPrefix(target, "/var/tmp/rocketrides-postgres-") {
		t.Fatalf("%s is a link to %q (%v), want a folder in /var/tmp", dir, target, err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(target); err != nil {
			t.Error(err)
		}
	})
	if stat, err := os.Stat(target); err != nil || stat.Mode().Perm() != 0o700 {
		t.Errorf("its mode is %v (%v), want 0700", stat.Mode(), err)
	}

	t.Run("a restart finds its data", func(t *testing.T) {
		second := newServer(t, pgserver.Config{Dir: dir})
		wantRow(t, second)
		stop(t, second)
	})
	t.Run("the files of a folder that was deleted are deleted too", func(t *testing.T) {
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		third := newServer(t, pgserver.Config{Dir: dir})
		insertRow(t, third) // fails if the table is still there
		stop(t, third)
	})
	t.Run("a link to a folder that is gone is replaced", func(t *testing.T) {
		if err := os.RemoveAll(target); err != nil {
			t.Fatal(err)
		}
		fourth := newServer(t, pgserver.Config{Dir: dir})
		insertRow(t, fourth)
		stop(t, fourth)
	})
	t.Run("a folder of another account is left alone", func(t *testing.T) {
		if err := errors.Join(os.Remove(dir), os.RemoveAll(target), os.Mkdir(target, 0o777)); err != nil {
			t.Fatal(err)
		}
		_, err := pgserver.Start(t.Context(), pgserver.Config{Dir: dir})
		if err == nil || !strings.Contains(err.Error(), "somebody else's") {
			t.Errorf("err = %v, want a refusal", err)
		}
	})
}

// removeLinked removes the folder that dir is a link to.
func removeLinked(t *testing.T, dir string) {
	t.Helper()
	target, err := os.Readlink(dir)
	if err != nil {
		return // there is no link
	}
	if err := os.RemoveAll(target); err != nil {
		t.Error(err)
	}
}
