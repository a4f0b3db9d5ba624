package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/golang-migrate/migrate/v4/database"
	pgxmigrate "github.com/golang-migrate/migrate/v4/database/pgx/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// driver is golang-migrate's driver with two changes. First, a file that is one
// transaction sets the version in that transaction. The original marks the
// version dirty before the file and clean after it; a lock time-out or a kill
// in between would leave a schema that only a person can repair. Second, the
// driver ends when a context ends; golang-migrate takes no context.
type driver struct {
	database.Driver

	version    int
	stopCancel func() bool
}

// openDriver connects with one session, which is closed when ctx ends.
func openDriver(ctx context.Context, config *pgx.ConnConfig) (*driver, error) {
	var session *pgx.Conn
	db := stdlib.OpenDB(*config, stdlib.OptionAfterConnect(func(_ context.Context, conn *pgx.Conn) error {
		session = conn
		return nil
	}))
	// With more connections, session would not be the one that is in use.
	db.SetMaxOpenConns(1)
	if err := db.PingContext(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	// pgx notices that the socket is closed, and cancels the statement.
	stop := context.AfterFunc(ctx, func() { _ = session.PgConn().Conn().Close() })
	inner, err := pgxmigrate.WithInstance(db, &pgxmigrate.Config{})
	if err != nil {
		stop()
		return nil, errors.Join(err, db.Close())
	}
	return &driver{Driver: inner, stopCancel: stop}, nil
}

// Close ends the session.
func (d *driver) Close() error {
	d.stopCancel()
	return d.Driver.Close()
}

// SetVersion is called before each file, with dirty = true, and after it.
// Before the file it only stores the version for Run, which writes it.
func (d *driver) SetVersion(version int, dirty bool) error {
	if dirty {
		d.version = version
		return nil
	}
	return d.Driver.SetVersion(version, false)
}

// Run applies one file.
func (d *driver) Run(file io.Reader) error {
	sql, err := io.ReadAll(file)
	if err != nil {
		return fmt.Errorf("reading migration: %w", err)
	}
	body, whole := bytes.CutSuffix(bytes.TrimSpace(sql), []byte("\nCOMMIT;"))
	if !whole {
		return d.runAlone(sql)
	}
	if err := d.run(append(body, d.versionSQL()...)); err != nil {
		// golang-migrate releases its lock with this session, which is still in
		// the failed transaction.
		return errors.Join(err, d.run([]byte("ROLLBACK")))
	}
	return nil
}

// runAlone runs a file that can't be in a transaction, such as CREATE INDEX
// CONCURRENTLY.
func (d *driver) runAlone(sql []byte) error {
	if err := d.Driver.SetVersion(d.version, true); err != nil {
		return err
	}
	return d.run(sql)
}

// versionSQL is the end of a file that is one transaction. It uses DELETE and
// not TRUNCATE, as golang-migrate does, so that readers of the version don't
// wait.
func (d *driver) versionSQL() string {
	return fmt.Sprintf(`
		DELETE FROM schema_migrations;
		INSERT INTO schema_migrations (version, dirty) VALUES (%d, false);
		COMMIT;`, d.version)
}

// run runs statements. Its error is the server's, without the text of the file
// and the values of rows, which golang-migrate's error holds.
func (d *driver) run(sql []byte) error {
	err := d.Driver.Run(bytes.NewReader(sql))
	if failed, ok := errors.AsType[database.Error](err); ok {
		return fmt.Errorf("migration to version %d, line %d: %w", d.version, failed.Line, failed.OrigErr)
	}
	return err
}
