package commands

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

// /readyz fails while the database takes no writes, and is ready again by
// itself, without a request or a restart.
func TestNotReadyWhileTheDatabaseTakesNoWrites(t *testing.T) {
	t.Parallel()
	pgtest.NotOnCitus(t, "it has a trigger, and changes a setting of the database")
	for name, c := range map[string]struct{ begin, end string }{
		"because the disk is full": {
			`CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS $$
			 BEGIN RAISE 'No space left on device' USING ERRCODE = '53100'; END $$;
			 CREATE TRIGGER fill BEFORE INSERT ON audit_records FOR EACH ROW EXECUTE FUNCTION fill()`,
			`DROP TRIGGER fill ON audit_records`,
		},
		"because it is read-only": {
			`ALTER DATABASE own SET default_transaction_read_only = on`,
			`ALTER DATABASE own RESET default_transaction_read_only`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			api, completer := s.start(t, "api"), s.start(t, "completer")
			s.changeDatabase(t, c.begin)
			if a := s.hail(api, "k"); a.status != http.StatusServiceUnavailable {
				t.Errorf("a ride got %d %s %v", a.status, a.body, a.err)
			}
			waitFor(t, "the api isn't ready", 10*time.Second, func() bool { return get(t, api.admin+"/readyz") == 503 })
			if strings.Contains(name, "read-only") { // nothing was due that the completer could have written
				waitFor(t, "the completer isn't ready", 10*time.Second, func() bool { return get(t, completer.admin+"/readyz") == 503 })
			}
			s.changeDatabase(t, c.end)
			for _, p := range []*process{api, completer} {
				waitFor(t, "it is ready again", 10*time.Second, func() bool { return get(t, p.admin+"/readyz") == 200 })
			}
			if a := s.hail(api, "k"); a.status != http.StatusCreated {
				t.Errorf("the ride got %d %s %v", a.status, a.body, a.err)
			}
			s.checkCharges(t)
		})
	}
}

// changeDatabase changes the scene's database, which sql calls own, and ends the
// sessions of the programs, which keep the settings that they began with.
func (s *scene) changeDatabase(t *testing.T, sql string) {
	t.Helper()
	for _, sql := range []string{
		strings.ReplaceAll(sql, "DATABASE own", "DATABASE "+s.pool.Config().ConnConfig.Database),
		`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		 WHERE datname = current_database() AND application_name LIKE 'rocketrides-%'`,
	} {
		if _, err := s.pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
}
