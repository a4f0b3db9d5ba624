package pgserver_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/rocketrides/rocketrides/internal/postgres/pgserver"
)

// install makes a folder that looks like one with a Postgres server.
func install(t *testing.T, dir string, programs ...string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, program := range programs {
		if err := os.WriteFile(filepath.Join(dir, program), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFindBinaries(t *testing.T) {
	t.Parallel()
	// On macOS the path of a temporary folder contains a link.
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	client := install(t, filepath.Join(root, "client"), "psql", "pg_ctl")
	install(t, filepath.Join(root, "9.6/bin"), "postgres", "initdb")
	old := install(t, filepath.Join(root, "15/bin"), "postgres", "initdb")
	latest := install(t, filepath.Join(root, "17/bin"), "postgres", "initdb")
	install(t, filepath.Join(root, "18/bin"), "postgres")
	install(t, filepath.Join(root, "links"))
	for _, program := range []string{"postgres", "initdb"} {
		if err := os.Symlink(filepath.Join(old, program), filepath.Join(root, "links", program)); err != nil {
			t.Fatal(err)
		}
	}
	places := []string{filepath.Join(root, "nothing/*/bin"), filepath.Join(root, "*/bin")}

	for _, c := range []struct {
		name string
		path []string
		want string
	}{
		{"the newest complete server in the usual places", nil, latest},
		{"a client in PATH is no server", []string{client, ""}, latest},
		{"PATH comes first", []string{client, old}, old},
		{"a link is followed", []string{filepath.Join(root, "links")}, old},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got, err := pgserver.FindBinariesIn(c.path, places); got != c.want || err != nil {
				t.Errorf("found %q (%v), want %q", got, err, c.want)
			}
		})
	}
	t.Run("none at all", func(t *testing.T) {
		t.Parallel()
		if got, err := pgserver.FindBinariesIn([]string{client}, places[:1]); !errors.Is(err, pgserver.ErrNoBinaries) {
			t.Errorf("found %q (%v), want ErrNoBinaries", got, err)
		}
	})
}
