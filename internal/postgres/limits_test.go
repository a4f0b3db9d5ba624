package postgres_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/postgres"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

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
