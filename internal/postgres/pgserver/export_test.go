package pgserver

import (
	"context"
	"log/slog"
)

// The tests are outside of the package, because pgtest imports it.

var (
	FindBinariesIn = findBinaries
	ErrNoBinaries  = errNoBinaries
)

// Download does what Start does on a machine without Postgres.
func Download(ctx context.Context, dir, repository string) (string, error) {
	logger := slog.New(slog.DiscardHandler)
	home, err := openHome(ctx, dir, logger)
	if err != nil {
		return "", err
	}
	s := &Server{home: home, config: Config{repository: repository, Logger: logger}}
	return s.download(ctx)
}
