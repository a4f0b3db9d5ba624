package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/postgres"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

// TestTookDoubtfulCommit has a server wait for a standby that does not exist,
// and an operator cancel the wait.
func TestTookDoubtfulCommit(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t, nil)
	pool := pgtest.Open(t, postgres.Options{URL: server.URL()})
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	operator := pgtest.Connect(t, with(t, server.URL(), "synchronous_commit=local"))
	pgtest.Execute(t, operator, "CREATE TABLE notes (n int)")

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	insert := func() (inDoubt bool, err error) {
		// Everything goes in one pipeline, as in the engine.
		_, err = conn.Conn().PgConn().Exec(ctx, "BEGIN; INSERT INTO notes VALUES (1); COMMIT").ReadAll()
		return postgres.TookDoubtfulCommit(conn.Conn()), err
	}
	if inDoubt, err := insert(); inDoubt || err != nil {
		t.Fatalf("a commit without a warning: in doubt = %t, %v", inDoubt, err)
	}

	pgtest.Execute(t, operator, "ALTER SYSTEM SET synchronous_standby_names = 'ghost'")
	pgtest.Execute(t, operator, "SELECT pg_reload_conf()")
	ended := make(chan error)
	go func() {
		// The new setting applies a moment after the reload.
		for {
			if inDoubt, err := insert(); inDoubt || err != nil {
				ended <- err
				return
			}
		}
	}()
	pgtest.Eventually(t, "a commit waits for the standby, and the wait is cancelled", func() bool {
		tag, err := operator.Exec(t.Context(), `SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'`)
		return err == nil && tag.RowsAffected() == 1
	})
	if err := <-ended; err != nil {
		t.Errorf("the commit failed instead of causing a warning: %v", err)
	}
	if postgres.TookDoubtfulCommit(conn.Conn()) {
		t.Error("the doubt is reported twice")
	}
}

func TestTookDoubtfulCommitAfterOtherWarnings(t *testing.T) {
	t.Parallel()
	conn, err := pgtest.New(t).Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	// A NOTICE, a WARNING of another class, and a WARNING of class 01000.
	for _, c := range []struct {
		sql  string
		want bool
	}{
		{`DO $$ BEGIN RAISE NOTICE 'nothing'; END $$`, false},
		{`COMMIT`, false}, // 25P01: there is no transaction
		{`DO $$ BEGIN RAISE WARNING 'Warnung: übersetzt'; END $$`, true},
	} {
		if _, err := conn.Exec(t.Context(), c.sql); err != nil {
			t.Fatal(err)
		}
		if got := postgres.TookDoubtfulCommit(conn.Conn()); got != c.want {
			t.Errorf("after %s: in doubt = %t, want %t", c.sql, got, c.want)
		}
	}
}
