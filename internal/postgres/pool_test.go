package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/postgres"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

// with adds parameters to a database URL.
func with(t *testing.T, databaseURL string, parameters ...string) string {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	for _, parameter := range parameters {
		name, value, _ := strings.Cut(parameter, "=")
		query.Set(name, value)
	}
	u.RawQuery = query.Encode()
	return u.String()
}

func TestOpen(t *testing.T) {
	t.Parallel()
	database := pgtest.URL(t)

	t.Run("text is UTF-8 whatever encoding the database has", func(t *testing.T) {
		t.Parallel()
		own := pgtest.URL(t)
		_, err := pgtest.Open(t, postgres.Options{URL: own}).Exec(t.Context(), `
			DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET client_encoding = SQL_ASCII', current_database()); END $$`)
		if err != nil {
			t.Fatal(err)
		}
		if got := show(t, pgtest.Open(t, postgres.Options{URL: own}), "client_encoding"); got != "UTF8" {
			t.Errorf("client_encoding = %q, want UTF8", got)
		}
	})

	t.Run("by default statements are cached", func(t *testing.T) {
		t.Parallel()
		pgtest.NotThroughPooler(t, "the URL says how statements are sent")
		config := pgtest.Open(t, postgres.Options{URL: database}).Config()
		if got := config.ConnConfig.DefaultQueryExecMode; got != pgx.QueryExecModeCacheStatement {
			t.Errorf("exec mode is %v, want cached statements", got)
		}
		if config.ConnConfig.ConnectTimeout != 5*time.Second {
			t.Errorf("ConnectTimeout = %v, want 5s", config.ConnConfig.ConnectTimeout)
		}
	})
	t.Run("the URL wins over the defaults", func(t *testing.T) {
		t.Parallel()
		pool := pgtest.Open(t, postgres.Options{
			URL: with(t, database, "default_query_exec_mode=exec", "connect_timeout=7",
				"application_name=theirs"),
			ApplicationName: "ours",
		})
		config := pool.Config()
		if got := config.ConnConfig.DefaultQueryExecMode; got != pgx.QueryExecModeExec {
			t.Errorf("exec mode is %v, want exec", got)
		}
		if config.ConnConfig.ConnectTimeout != 7*time.Second {
			t.Errorf("ConnectTimeout = %v, want 7s", config.ConnConfig.ConnectTimeout)
		}
		if got := show(t, pool, "application_name"); got != "theirs" {
			t.Errorf("application_name = %q, want theirs", got)
		}
	})
	t.Run("options set the size of the pool and the application's name", func(t *testing.T) {
		t.Parallel()
		pool := pgtest.Open(t, postgres.Options{
			URL: with(t, database, "pool_max_conns=3"), MaxConns: 5, ApplicationName: "ours",
		})
		if got := pool.Config().MaxConns; got != 5 {
			t.Errorf("MaxConns = %d, want 5", got)
		}
		if got := show(t, pool, "application_name"); got != "ours" {
			t.Errorf("application_name = %q, want ours", got)
		}
	})
	t.Run("Open uses the given dialler", func(t *testing.T) {
		t.Parallel()
		cut := errors.New("the connection is cut")
		_, err := postgres.Open(t.Context(), postgres.Options{
			URL: database, MaxConns: 2,
			DialFunc: func(context.Context, string, string) (net.Conn, error) { return nil, cut },
		})
		if !errors.Is(err, cut) {
			t.Errorf("err = %v, want the dialler's", err)
		}
	})
	t.Run("a pool has a size", func(t *testing.T) {
		t.Parallel()
		pool, err := postgres.Open(t.Context(), postgres.Options{URL: with(t, database, "pool_max_conns=3")})
		if err == nil {
			pool.Close()
			t.Error("a pool without MaxConns was opened")
		}
	})
	t.Run("without a URL the error says how to set it", func(t *testing.T) {
		t.Parallel()
		_, err := postgres.Open(t.Context(), postgres.Options{})
		if err == nil || !strings.Contains(err.Error(), "DATABASE_URL") {
			t.Errorf("err = %v, want one that names DATABASE_URL", err)
		}
	})
	t.Run("an address where nothing listens is told once, with the setting", func(t *testing.T) {
		t.Parallel()
		const url = "postgres://nobody@127.0.0.1:1/x"
		_, err := postgres.Open(t.Context(), postgres.Options{URL: url, MaxConns: 1})
		for by, err := range map[string]error{"opening": err, "migrating": postgres.Migrate(t.Context(), url, nil)} {
			text := fmt.Sprint(err)
			if strings.Count(text, "connection refused") != 1 || strings.Contains(text, "\n") ||
				!strings.HasPrefix(text, "opening database (DATABASE_URL or --database-url): ") || !strings.HasSuffix(text, "; is Postgres running there?") {
				t.Errorf("%s: %s", by, text)
			}
		}
	})
	t.Run("errors never hold the password", func(t *testing.T) {
		t.Parallel()
		for _, bad := range []string{
			"postgres://rides:s3cret@127.0.0.1:1/rides",             // nobody listens
			"postgres://rides:s3cret@127.0.0.1:port/rides",          // not a URL
			"postgres://rides:s3cret@127.0.0.1:1/?sslmode=nonsense", // not a mode
			"host=127.0.0.1 password=s3cret port=x",                 // not a port
		} {
			_, err := postgres.Open(t.Context(), postgres.Options{URL: bad, MaxConns: 2})
			if err == nil || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("Open(%s) = %v, want an error without the password", bad, err)
			}
		}
	})
	t.Run("a server that accepts and never answers is given up", func(t *testing.T) {
		t.Parallel()
		listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = listener.Close() })
		start := time.Now()
		_, err = postgres.Open(t.Context(), postgres.Options{
			URL: "postgres://rides@" + listener.Addr().String() + "/rides?sslmode=disable&connect_timeout=1", MaxConns: 2,
		})
		if err == nil || time.Since(start) > 20*time.Second {
			t.Errorf("err = %v after %v, want one after about 1s", err, time.Since(start))
		}
	})
}
