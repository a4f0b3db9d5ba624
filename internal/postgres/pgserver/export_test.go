package pgserver

import (
	"context"
	"log/slog"
	"time"
)

// The tests are outside of the package, because pgtest imports it.

var (
	FindBinariesIn = findBinaries
	ErrNoBinaries  = errNoBinaries
)

// Download does what Start does on a machine without Postgres. 0 is the usual
// time-out.
func Download(ctx context.Context, dir, repository string, timeout time.Duration) (string, error) {
	logger := slog.New(slog.DiscardHandler)
	home, err := openHome(ctx, dir, logger)
	if err != nil {
		return "", err
	}
	s := &Server{home: home, config: Config{repository: repository, downloadTimeout: timeout, Logger: logger}}
	return s.download(ctx)
}
