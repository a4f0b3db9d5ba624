package postgres_test

import (
	"strings"
	"testing"

	"github.com/rocketrides/rocketrides/internal/postgres"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

func TestCheckSchema(t *testing.T) {
	t.Parallel()
	pgtest.NotOnCitus(t, "it changes the schema's version")

	for _, c := range []struct{ name, change, want string }{
		{"the schema of this binary passes", `SELECT 1`, ""},
		{"a newer schema passes", `UPDATE schema_migrations SET version = 999`, ""},
		{"an older schema is refused", `UPDATE schema_migrations SET version = 0`, "run `api migrate`"},
		{"a schema without a version is refused", `DELETE FROM schema_migrations`, "run `api migrate`"},
		{"no schema is refused", `DROP TABLE schema_migrations`, "run `api migrate`"},
		{"a dirty schema is refused", `UPDATE schema_migrations SET dirty = true`, "half-way"},
		{"an older schema of River's is refused", `DELETE FROM river.river_migration WHERE version > 6`, "run `api migrate`"},
		{"a newer schema of River's passes", `INSERT INTO river.river_migration (line, version) VALUES ('main', 999)`, ""},
		{"no schema of River's is refused", `DROP SCHEMA river CASCADE`, "run `api migrate`"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			pool := pgtest.New(t)
			if _, err := pool.Exec(t.Context(), c.change); err != nil {
				t.Fatal(err)
			}
			err := postgres.CheckSchema(t.Context(), pool)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("err = %v, want %q", err, c.want)
			}
		})
	}
	t.Run("migrating leaves a newer schema alone", func(t *testing.T) {
		t.Parallel()
		url := pgtest.URL(t)
		conn := pgtest.Connect(t, url)
		pgtest.Execute(t, conn, `UPDATE schema_migrations SET version = 999;
			INSERT INTO river.river_migration (line, version) VALUES ('main', 999)`)
		if err := postgres.Migrate(t.Context(), url, nil); err != nil {
			t.Error(err)
		}
		if version, dirty := state(t, conn); version != 999 || dirty {
			t.Errorf("version = %d, dirty = %t; want 999, false", version, dirty)
		}
	})
}
