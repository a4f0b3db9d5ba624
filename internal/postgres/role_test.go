package postgres_test

import (
	"context"
	"crypto/rand"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/postgres"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

// A role that owns a schema of its name, and has no other privilege, is enough:
// see deploy/database.sql.
func TestMigrateNeedsNoMoreThanASchema(t *testing.T) {
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
