package postgres

import (
	"context"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
)

// The tests are outside of the package, because pgtest imports it.

var ErrUnsafeSettings = errUnsafeSettings

func CheckSettings(ctx context.Context, conn *pgx.Conn) error { return checkSettings(ctx, conn) }

func Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return dialer(connectTimeout).DialContext(ctx, network, address)
}

// A Migrator is a migrator with other files and shorter time-outs.
type Migrator struct {
	Files       fs.FS
	LockTimeout time.Duration
	Tries       int
	Log         io.Writer // nil for none
}

func (m Migrator) migrator() migrator {
	logger := slog.New(slog.DiscardHandler)
	if m.Log != nil {
		logger = slog.New(slog.NewTextHandler(m.Log, nil))
	}
	return migrator{files: m.Files, lockTimeout: m.LockTimeout, tries: m.Tries, pause: 20 * time.Millisecond, logger: logger}
}

func (m Migrator) Up(ctx context.Context, url string) error { return m.migrator().up(ctx, url) }

// Undo undoes the newest migration that is applied.
func (m Migrator) Undo(ctx context.Context, url string) error {
	config, err := parse(url)
	if err != nil {
		return err
	}
	steps, err := m.migrator().open(ctx, config)
	if err != nil {
		return err
	}
	defer func() { _, _ = steps.Close() }()
	return steps.Steps(-1)
}

// Split returns the statements of a file.
func Split(file string) []string {
	var statements []string
	for _, s := range split(file) {
		statements = append(statements, s.sql)
	}
	return statements
}
