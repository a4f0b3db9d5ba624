package postgres

import (
	"context"
	"io/fs"
	"log/slog"
	"time"
)

// The tests are outside of the package, because pgtest imports it.

var ErrUnsafeSettings = errUnsafeSettings

// A Migrator is a migrator with other files and shorter time-outs.
type Migrator struct {
	Files       fs.FS
	LockTimeout time.Duration
	Tries       int
}

func (m Migrator) migrator() migrator {
	return migrator{
		files: m.Files, lockTimeout: m.LockTimeout, tries: m.Tries, pause: 20 * time.Millisecond,
		logger: slog.New(slog.DiscardHandler),
	}
}

func (m Migrator) Up(ctx context.Context, url string) error { return m.migrator().up(ctx, url) }

// Down undoes all migrations.
func (m Migrator) Down(ctx context.Context, url string) error {
	config, err := parse(url)
	if err != nil {
		return err
	}
	steps, err := m.migrator().open(ctx, config)
	if err != nil {
		return err
	}
	defer func() { _, _ = steps.Close() }()
	return steps.Down()
}
