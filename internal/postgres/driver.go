package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/golang-migrate/migrate/v4/database"
	pgxmigrate "github.com/golang-migrate/migrate/v4/database/pgx/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// driver is golang-migrate's driver with three changes. First, a file that is
// one transaction sets the version in that transaction. The original marks the
// version dirty before the file and clean after it; a lock time-out or a kill
// in between would leave a schema that only a person can repair. Second, each
// statement is a message of its own; the original sends a file as one, which
// Citus refuses on distributed tables. Third, the driver ends when a context
// ends; golang-migrate takes no context.
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
	statements := split(string(sql))
	last := len(statements) - 1
	if last < 0 || statements[last].sql != "COMMIT;" {
		return d.runAlone(statements)
	}
	if err := d.run(append(statements[:last:last], d.versionStatements()...)); err != nil {
		// golang-migrate releases its lock with this session, which is still in
		// the failed transaction.
		return errors.Join(err, d.run(split("ROLLBACK;")))
	}
	return nil
}

// runAlone runs a file that can't be in a transaction: CREATE or DROP INDEX
// CONCURRENTLY. That waits for transactions that may be long, such as those of a
// backup. Nobody queues up behind it, and a time-out would leave it half-way.
func (d *driver) runAlone(statements []statement) error {
	if err := d.Driver.SetVersion(d.version, true); err != nil {
		return err
	}
	return d.run(slices.Concat(split("SET lock_timeout = 0;"), statements, split("RESET lock_timeout;")))
}

// versionStatements are the end of a file that is one transaction. They use
// DELETE and not TRUNCATE, as golang-migrate does, so that readers of the
// version don't wait.
func (d *driver) versionStatements() []statement {
	return split(fmt.Sprintf(`
		DELETE FROM schema_migrations;
		INSERT INTO schema_migrations (version, dirty) VALUES (%d, false);
		COMMIT;`, d.version))
}

// run runs statements, each as a message of its own. Its error is the server's,
// without the text of the file and the values of rows, which golang-migrate's
// error holds.
func (d *driver) run(statements []statement) error {
	for _, s := range statements {
		err := d.Driver.Run(strings.NewReader(s.sql))
		if failed, ok := errors.AsType[database.Error](err); ok {
			return fmt.Errorf("migration to version %d, line %d: %w", d.version, s.line+max(failed.Line, 1)-1, failed.OrigErr)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// A statement is one of a file, where it begins on that line.
type statement struct {
	sql  string
	line uint
}

var commentLine = regexp.MustCompile(`(?m)^[ \t]*--.*$`)

// split splits a file into its statements. A statement ends with a semicolon at
// the end of a line that isn't a comment.
func split(file string) []statement {
	var found []statement
	line := uint(1)
	for part := range strings.SplitAfterSeq(commentLine.ReplaceAllString(file, "")+"\n", ";\n") {
		sql := strings.TrimLeft(part, "\n")
		line += uint(len(part) - len(sql))
		if sql != "" {
			found = append(found, statement{strings.TrimSpace(sql), line})
		}
		line += uint(strings.Count(sql, "\n"))
	}
	return found
}
