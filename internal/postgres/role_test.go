package postgres_test

import (
	"context"
	"crypto/rand"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/postgres"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

// A role that owns two schemas, one of its name and River's, and has no other
// privilege, is enough: see deploy/database.sql. Without the second one the
// error says what is missing.
func TestMigrateNeedsNoMoreThanSchemas(t *testing.T) {
	t.Parallel()
	server := pgtest.EmptyURL(t)
	admin := pgtest.Connect(t, server)
	role := "service_" + strings.ToLower(rand.Text())
	database := pgx.Identifier{admin.Config().Database}.Sanitize()
	pgtest.Execute(t, admin, "CREATE ROLE "+role+" LOGIN PASSWORD 'secret'")
	t.Cleanup(func() {
		_, err := admin.Exec(context.Background(), "DROP OWNED BY "+role+"; DROP ROLE "+role)
		if err != nil {
			t.Error(err)
		}
	})
	pgtest.Execute(t, admin, "REVOKE ALL ON SCHEMA public FROM PUBLIC; REVOKE ALL ON DATABASE "+database+" FROM PUBLIC; "+
		"GRANT CONNECT ON DATABASE "+database+" TO "+role+"; CREATE SCHEMA AUTHORIZATION "+role)
	asService := withUser(t, server, role, "secret")
	want := `have a superuser run CREATE SCHEMA river AUTHORIZATION "` + role + `"`
	if err := postgres.Migrate(t.Context(), asService, nil); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("without River's schema: %v, want %q", err, want)
	}
	pgtest.Execute(t, admin, "CREATE SCHEMA river AUTHORIZATION "+role)
	if err := postgres.Migrate(t.Context(), asService, nil); err != nil {
		t.Fatal(err)
	}
	pool := pgtest.Open(t, postgres.Options{URL: asService})
	if err := postgres.CheckSchema(t.Context(), pool); err != nil {
		t.Error(err)
	}
}

// withUser returns the URL address for another role.
func withUser(t *testing.T, address, role, password string) string {
	t.Helper()
	parsed, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	parsed.User = url.UserPassword(role, password)
	return parsed.String()
}

func TestMigrateSetsTimeouts(t *testing.T) {
	t.Parallel()
	timeouts := func(t *testing.T, url string) map[string]string {
		t.Helper()
		conn := pgtest.Connect(t, url)
		found := make(map[string]string)
		for _, name := range []string{"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"} {
			found[name] = show(t, conn, name)
		}
		return found
	}

	t.Run("for a role that has none", func(t *testing.T) {
		t.Parallel()
		url := pgtest.EmptyURL(t)
		if err := postgres.Migrate(t.Context(), url, nil); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{
			"statement_timeout": "10s", "lock_timeout": "2s", "idle_in_transaction_session_timeout": "30s",
		}
		if diff := cmp.Diff(want, timeouts(t, url)); diff != "" {
			t.Errorf("time-outs (-want +got):\n%s", diff)
		}
		pgtest.Open(t, postgres.Options{URL: url})
	})
	t.Run("but not if an operator set one", func(t *testing.T) {
		t.Parallel()
		url := pgtest.EmptyURL(t)
		operator := pgtest.Connect(t, url)
		database := pgx.Identifier{operator.Config().Database}.Sanitize()
		pgtest.Execute(t, operator, "ALTER DATABASE "+database+" SET statement_timeout = '7s'")
		pgtest.Execute(t, operator, "ALTER ROLE CURRENT_USER IN DATABASE "+database+" SET lock_timeout = '3s'")
		if err := postgres.Migrate(t.Context(), url, nil); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{
			"statement_timeout": "7s", "lock_timeout": "3s", "idle_in_transaction_session_timeout": "30s",
		}
		if diff := cmp.Diff(want, timeouts(t, url)); diff != "" {
			t.Errorf("time-outs (-want +got):\n%s", diff)
		}
	})
	t.Run("and a migration has only that for locks", func(t *testing.T) {
		t.Parallel()
		pgtest.NotOnCitus(t, "it destroys the schema")
		url := pgtest.URL(t)
		pgtest.Execute(t, pgtest.Connect(t, url), "DROP TABLE schema_migrations; DROP SCHEMA public CASCADE; CREATE SCHEMA public")
		m := migrator("BEGIN;\nCREATE TABLE seen AS SELECT current_setting('statement_timeout') AS s, " +
			"current_setting('idle_in_transaction_session_timeout') AS i, current_setting('lock_timeout') AS l;\nCOMMIT;\n")
		if err := m.Up(t.Context(), url); err != nil {
			t.Fatal(err)
		}
		var s, i, l string
		if err := pgtest.Connect(t, url).QueryRow(t.Context(), `SELECT s, i, l FROM seen`).Scan(&s, &i, &l); err != nil {
			t.Fatal(err)
		}
		if s != "0" || i != "0" || l != "5s" {
			t.Errorf("a migration ran with statement_timeout %s, idle_in_transaction_session_timeout %s, lock_timeout %s", s, i, l)
		}
	})
}

// TestMigrateLetsWarningsThrough hides the server's warnings from a role, also
// from later sessions of a pooled connection.
func TestMigrateLetsWarningsThrough(t *testing.T) {
	t.Parallel()
	pgtest.NotOnCitus(t, "it changes settings of the role")
	for _, c := range []struct{ before, after string }{
		{"error", "warning"}, {"warning", "warning"}, {"notice", "notice"}, {"debug1", "debug1"},
	} {
		t.Run(c.before, func(t *testing.T) {
			t.Parallel()
			url := pgtest.URL(t)
			operator := pgtest.Connect(t, url)
			database := pgx.Identifier{operator.Config().Database}.Sanitize()
			pgtest.Execute(t, operator, "ALTER ROLE CURRENT_USER IN DATABASE "+database+" SET client_min_messages = "+c.before)

			if c.before == c.after {
				pgtest.Open(t, postgres.Options{URL: url})
			} else {
				_, err := postgres.Open(t.Context(), postgres.Options{URL: url, MaxConns: 2})
				wantUnsafe(t, err, "client_min_messages = "+c.before, "api migrate")
			}
			if err := postgres.Migrate(t.Context(), url, nil); err != nil {
				t.Fatal(err)
			}
			if got := show(t, pgtest.Open(t, postgres.Options{URL: url}), "client_min_messages"); got != c.after {
				t.Errorf("after migrating, client_min_messages = %s, want %s", got, c.after)
			}
		})
	}
}
