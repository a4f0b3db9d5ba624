package pgserver_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rocketrides/rocketrides/internal/postgres/pgserver"
)

// TestServerInUnreachableFolder has a folder of which only its owner can reach
// the parents. For root, whose server runs under another account, that means
// that the files live elsewhere; for anybody else it means nothing.
//
//nolint:paralleltest,tparallel // each sub-test goes on from the one before
func TestServerInUnreachableFolder(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	if err := os.Chmod(parent, 0o700); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(parent, "sandbox", "postgres")

	t.Cleanup(func() { removeLinked(t, dir) })
	first := newServer(t, pgserver.ServerConfig{Dir: dir})
	note(t, first)
	stop(t, first)
	if os.Geteuid() != 0 {
		if _, err := os.Readlink(dir); err == nil {
			t.Errorf("%s is a link, and its owner can reach it", dir)
		}
		return
	}
	elsewhere, err := os.Readlink(dir)
	if err != nil || !strings.HasPrefix(elsewhere, "/var/tmp/rocketrides-postgres-") {
		t.Fatalf("%s leads to %q (%v), want a folder in /var/tmp", dir, elsewhere, err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(elsewhere); err != nil {
			t.Error(err)
		}
	})
	if stat, err := os.Stat(elsewhere); err != nil || stat.Mode().Perm() != 0o700 {
		t.Errorf("its mode is %v (%v), want 0700", stat.Mode(), err)
	}

	t.Run("a restart finds its data", func(t *testing.T) {
		second := newServer(t, pgserver.ServerConfig{Dir: dir})
		wantNote(t, second)
		stop(t, second)
	})
	t.Run("what belonged to a folder that was deleted is deleted too", func(t *testing.T) {
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		third := newServer(t, pgserver.ServerConfig{Dir: dir})
		note(t, third) // fails where the table is there already
		stop(t, third)
	})
	t.Run("a link to nowhere is made anew", func(t *testing.T) {
		if err := os.RemoveAll(elsewhere); err != nil {
			t.Fatal(err)
		}
		fourth := newServer(t, pgserver.ServerConfig{Dir: dir})
		note(t, fourth)
		stop(t, fourth)
	})
	t.Run("a folder of somebody else's is left alone", func(t *testing.T) {
		if err := errors.Join(os.Remove(dir), os.RemoveAll(elsewhere), os.Mkdir(elsewhere, 0o777)); err != nil {
			t.Fatal(err)
		}
		_, err := pgserver.StartServer(t.Context(), pgserver.ServerConfig{Dir: dir})
		if err == nil || !strings.Contains(err.Error(), "somebody else's") {
			t.Errorf("err = %v, want a refusal", err)
		}
	})
}

// removeLinked removes what lives in /var/tmp on behalf of dir.
func removeLinked(t *testing.T, dir string) {
	t.Helper()
	elsewhere, err := os.Readlink(dir)
	if err != nil {
		return // there is no link
	}
	if err := os.RemoveAll(elsewhere); err != nil {
		t.Error(err)
	}
}
