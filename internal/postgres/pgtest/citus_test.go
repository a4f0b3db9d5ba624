package pgtest

import (
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

// TestEveryTableIsDistributedOrNot checks that no migration has made a table
// that deploy/citus.sql and the tests on a Citus cluster don't know.
func TestEveryTableIsDistributedOrNot(t *testing.T) {
	t.Parallel()
	rows, err := Connect(t, URL(t)).Query(t.Context(), `SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'`)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	known := slices.Concat(distributed, undistributed)
	slices.Sort(tables)
	slices.Sort(known)
	if diff := cmp.Diff(tables, known); diff != "" {
		t.Errorf("the tables that are known differ from those that there are (-there +known):\n%s", diff)
	}

	file, err := os.ReadFile(distributionFile())
	if err != nil {
		t.Fatal(err)
	}
	list := regexp.MustCompile(`(?s)ARRAY\[(.*?)\]`).FindSubmatch(file)
	var named []string
	for _, name := range regexp.MustCompile(`'(\w+)'`).FindAllSubmatch(list[1], -1) {
		named = append(named, string(name[1]))
	}
	if diff := cmp.Diff(distributed, named); diff != "" {
		t.Errorf("the tables that are distributed differ from those of deploy/citus.sql (-here +there):\n%s", diff)
	}
}
