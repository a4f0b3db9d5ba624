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

// driver is golang-migrate's driver, but for two things. A file that is one
// transaction carries its version inside it; as it comes, the version is marked
// dirty before the file and clean after it, and a lock time-out or a kill in
// between would leave a schema that only a person can release. And it ends with
// a context, which golang-migrate doesn't know.
type driver struct {
	database.Driver

	version    int
	stopCancel func() bool
}

// openDriver connects with one session of its own, which is cut when ctx ends.
func openDriver(ctx context.Context, config *pgx.ConnConfig) (*driver, error) {
	var session *pgx.Conn
	db := stdlib.OpenDB(*config, stdlib.OptionAfterConnect(func(_ context.Context, conn *pgx.Conn) error {
		session = conn
		return nil
	}))
	// The one session is what can be cut.
	db.SetMaxOpenConns(1)
	if err := db.PingContext(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	// pgx finds the session cut, and has the server cancel what it is doing.
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

// SetVersion is called before and after each file. Before, it only keeps the
// version in mind: Run writes it in the way that suits the file.
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
		return d.runInPieces(sql)
	}
	if err := d.run(append(body, d.versionSQL()...)); err != nil {
		// The session is in a failed transaction, and golang-migrate wants to
		// unlock with it.
		return errors.Join(err, d.run([]byte("ROLLBACK")))
	}
	return nil
}

// runInPieces is for what can't be in a transaction: CREATE INDEX CONCURRENTLY.
func (d *driver) runInPieces(sql []byte) error {
	if err := d.Driver.SetVersion(d.version, true); err != nil {
		return err
	}
	return d.run(sql)
}

// versionSQL ends a file that is one transaction. It deletes and doesn't
// truncate, as golang-migrate does, so that readers of the version needn't
// wait.
func (d *driver) versionSQL() string {
	return fmt.Sprintf(`
		DELETE FROM schema_migrations;
		INSERT INTO schema_migrations (version, dirty) VALUES (%d, false);
		COMMIT;`, d.version)
}

// run keeps the server's error and leaves out the text of the file, and the
// rows in the error's detail, which golang-migrate would print.
func (d *driver) run(sql []byte) error {
	err := d.Driver.Run(bytes.NewReader(sql))
	if failed, ok := errors.AsType[database.Error](err); ok {
		return fmt.Errorf("migration to version %d, line %d: %w", d.version, failed.Line, failed.OrigErr)
	}
	return err
}
