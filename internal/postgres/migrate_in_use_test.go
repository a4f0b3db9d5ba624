package postgres_test

import (
	"fmt"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rocketrides/rocketrides/internal/postgres"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

// TestMigrateTablesInUse applies all migrations except the first, and two more,
// to the tables of a service, which on Citus are distributed.
func TestMigrateTablesInUse(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pgtest.NotThroughPooler(t, "it migrates")
	conn := pgtest.Connect(t, url)
	newest, _ := state(t, conn)
	before := schema(t, conn)
	files := ourFiles(t, newest)
	for i, sql := range [][2]string{
		{
			"BEGIN;\nALTER TABLE rides ADD COLUMN extra text;\nUPDATE rides SET extra = 'none' WHERE extra IS NULL;\n" +
				"ALTER TABLE idempotency_keys ADD CONSTRAINT extra CHECK (attempts >= 0) NOT VALID;\nCOMMIT;\n",
			"BEGIN;\nALTER TABLE idempotency_keys DROP CONSTRAINT extra;\nALTER TABLE rides DROP COLUMN extra;\nCOMMIT;\n",
		},
		{"CREATE INDEX CONCURRENTLY rides_extra_idx ON rides (extra);\n", "DROP INDEX CONCURRENTLY rides_extra_idx;\n"},
	} {
		name := fmt.Sprintf("%06d_extra.", newest+1+i)
		files[name+"up.sql"], files[name+"down.sql"] = &fstest.MapFile{Data: []byte(sql[0])}, &fstest.MapFile{Data: []byte(sql[1])}
	}
	m := postgres.Migrator{Files: files, LockTimeout: 5 * time.Second, Tries: 1}
	undoTo := func(version int) {
		t.Helper()
		for at, _ := state(t, conn); at > version; at-- {
			if err := m.Undo(t.Context(), url); err != nil {
				t.Fatal(err)
			}
		}
	}
	undoTo(1)
	if err := m.Up(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	if version, dirty := state(t, conn); version != newest+2 || dirty {
		t.Errorf("version = %d, dirty = %t; want %d, false", version, dirty, newest+2)
	}
	undoTo(newest)
	pgtest.DistributeSchema(t, url)
	if diff := cmp.Diff(before, schema(t, conn)); diff != "" {
		t.Errorf("the schema differs from before (-before +after):\n%s", diff)
	}
}
