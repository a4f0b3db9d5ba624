package pgtest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/postgres"
	"github.com/rocketrides/rocketrides/migrations"
)

// emptyTemplate is a database of Postgres's that accepts no connections: a
// database in use can't be copied.
const emptyTemplate = "template0"

// A database is that of one test.
type database struct {
	name  string
	url   string
	admin string
}

// clone makes a database from the migrated template. That takes a tenth of the
// time of a migration.
func clone(ctx context.Context, admin string) (*database, error) {
	conn, err := connect(ctx, admin)
	if err != nil {
		return nil, err
	}
	defer disconnect(ctx, conn)

	template, err := migratedTemplate(ctx, conn, admin)
	if err != nil {
		return nil, fmt.Errorf("making the template: %w", err)
	}
	d, err := copyOf(ctx, conn, admin, template)
	if err != nil {
		return nil, err
	}
	// A copy has everything except the settings of roles.
	return d, postgres.ConfigureRole(ctx, conn, d.name)
}

// create makes an empty database.
func create(ctx context.Context, admin string) (*database, error) {
	conn, err := connect(ctx, admin)
	if err != nil {
		return nil, err
	}
	defer disconnect(ctx, conn)
	return copyOf(ctx, conn, admin, emptyTemplate)
}

func copyOf(ctx context.Context, conn *pgx.Conn, admin, template string) (*database, error) {
	name := "test_" + strings.ToLower(rand.Text())
	if _, err := conn.Exec(ctx, `CREATE DATABASE `+name+` TEMPLATE `+template); err != nil {
		return nil, fmt.Errorf("copying %s: %w", template, err)
	}
	return &database{name: name, url: withDatabase(admin, name), admin: admin}, nil
}

// finish drops the database if the test passed. If it failed, finish logs the
// URL of the database.
func (d *database) finish(tb testing.TB) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), setupTimeout)
	defer cancel()
	if !tb.Failed() {
		if err := d.drop(ctx); err != nil {
			tb.Errorf("dropping the test's database: %v", err)
		}
	}
	if tb.Failed() {
		tb.Logf("the test's database is kept while its server runs: %s", d.url)
	}
}

func (d *database) drop(ctx context.Context) error {
	conn, err := connect(ctx, d.admin)
	if err != nil {
		return err
	}
	defer disconnect(ctx, conn)
	if err := d.awaitUnused(ctx, conn); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, `DROP DATABASE `+d.name)
	return err
}

// awaitUnused waits for the end of the sessions that the test has just closed.
// It returns an error that lists those that the test left open.
func (d *database) awaitUnused(ctx context.Context, conn *pgx.Conn) error {
	var open []string
	for end := time.Now().Add(closeTimeout); time.Now().Before(end); {
		rows, err := conn.Query(ctx, `
			SELECT format('%s, %s since %s: %s', application_name, state, state_change, query)
			  FROM pg_stat_activity WHERE datname = $1 AND backend_type = 'client backend'`, d.name)
		if err != nil {
			return err
		}
		if open, err = pgx.CollectRows(rows, pgx.RowTo[string]); len(open) == 0 || err != nil {
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
	return fmt.Errorf("the test left %d connection(s) open: %s", len(open), strings.Join(open, "; "))
}

// migratedTemplate returns the name of the database to clone, and makes it once
// for each server and schema. Parallel test processes take turns; a template
// gets its name when it is complete.
func migratedTemplate(ctx context.Context, conn *pgx.Conn, admin string) (string, error) {
	sum, err := schemaSum()
	if err != nil {
		return "", err
	}
	name := fmt.Sprintf("rocketrides_template_%x", sum[:8])
	if there, err := exists(ctx, conn, name); there || err != nil {
		return name, err
	}

	lock := int64(binary.BigEndian.Uint64(sum[:8]))
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, lock); err != nil {
		return "", err
	}
	defer conn.Exec(ctx, `SELECT pg_advisory_unlock($1)`, lock) //nolint:errcheck // the session ends soon, and the lock with it
	if there, err := exists(ctx, conn, name); there || err != nil {
		return name, err
	}
	return name, makeTemplate(ctx, conn, admin, name)
}

func makeTemplate(ctx context.Context, conn *pgx.Conn, admin, name string) error {
	// A process that was killed while it made the template leaves this one.
	incomplete := name + "_incomplete"
	if _, err := conn.Exec(ctx, `DROP DATABASE IF EXISTS `+incomplete+` WITH (FORCE)`); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, `CREATE DATABASE `+incomplete+` TEMPLATE `+emptyTemplate); err != nil {
		return err
	}
	if err := postgres.Migrate(ctx, withDatabase(admin, incomplete), nil); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, fmt.Sprintf(`ALTER DATABASE %s RENAME TO %s`, incomplete, name))
	return err
}

func exists(ctx context.Context, conn *pgx.Conn, name string) (found bool, err error) {
	err = conn.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)`, name).Scan(&found)
	return found, err
}

// schemaSum is a hash of all migrations, and of the version of River's.
func schemaSum() ([]byte, error) {
	river, err := postgres.RiverVersion()
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	fmt.Fprintf(sum, "River %d\n", river)
	err = fs.WalkDir(migrations.Files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		file, err := fs.ReadFile(migrations.Files, path)
		fmt.Fprintf(sum, "%s %d\n%s", path, len(file), file)
		return err
	})
	return sum.Sum(nil), err
}

// connect opens a session without the time-outs that its role may have.
func connect(ctx context.Context, url string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["statement_timeout"] = "0"
	config.RuntimeParams["lock_timeout"] = "0"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, errors.Join(errors.New("connecting to the test server"), err)
	}
	return conn, nil
}

// disconnect ignores the error: a server that fails is no matter here.
func disconnect(ctx context.Context, conn *pgx.Conn) { _ = conn.Close(ctx) }

// withDatabase returns the URL of another database on the same server.
func withDatabase(server, name string) string {
	u, err := url.Parse(server)
	if err != nil || u.Scheme == "" {
		// It consists of keywords and values, of which the last one wins.
		return server + " dbname=" + name
	}
	u.Path = "/" + name
	return u.String()
}
