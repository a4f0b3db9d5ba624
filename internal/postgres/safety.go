package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// errUnsafeSettings means that the server, with the settings of this role in
// this database, could lose an acknowledged commit, keep a lock for ever or
// refuse to write. Each error that wraps it is a sentence that tells an
// operator what to do.
var errUnsafeSettings = errors.New("unsafe database settings")

// session is what the server says about one connection.
type session struct {
	settings   map[string][]string // the session's value and the one after RESET
	inRecovery bool
	role       string
	database   string
}

// has reports whether a setting has, or has after RESET, one of these values. A
// pooler resets the settings of the connections that it shares.
func (s session) has(setting string, values ...string) bool {
	return slices.ContainsFunc(s.settings[setting], func(value string) bool { return slices.Contains(values, value) })
}

// checkSettings returns an error if the settings are unsafe. It runs for each
// new connection, in one round trip, and not only once per process, because a
// server can be reconfigured, failed over or restored while its clients run.
func checkSettings(ctx context.Context, conn *pgx.Conn) error {
	s, err := readSession(ctx, conn)
	if err != nil {
		return err
	}
	return s.check()
}

func readSession(ctx context.Context, conn *pgx.Conn) (session, error) {
	s := session{settings: make(map[string][]string)}
	names := []string{"fsync", "full_page_writes", "synchronous_commit", "default_transaction_read_only"}
	for _, setting := range roleSettings {
		names = append(names, setting.name)
	}
	// QueryExecModeExec prepares nothing: it takes one round trip, and works
	// with every kind of pooler.
	rows, err := conn.Query(ctx, `
		SELECT name, setting, reset_val, pg_is_in_recovery(), current_user::text, current_database()::text
		FROM pg_settings
		WHERE name = ANY($1)`,
		pgx.QueryExecModeExec, names)
	if err != nil {
		return session{}, fmt.Errorf("reading the session's settings: %w", err)
	}
	var name, value, afterReset string
	_, err = pgx.ForEachRow(rows, []any{&name, &value, &afterReset, &s.inRecovery, &s.role, &s.database}, func() error {
		s.settings[name] = []string{value, afterReset}
		return nil
	})
	if err != nil {
		return session{}, fmt.Errorf("reading the session's settings: %w", err)
	}
	return s, nil
}

// check returns an error that names the first fault. Durability comes first:
// this program can't make up for its lack.
func (s session) check() error {
	switch {
	case s.has("fsync", "off"):
		return refuse("fsync is off, so a crash can lose rides whose cards were charged; set fsync = on in postgresql.conf")
	case s.has("full_page_writes", "off"):
		return refuse("full_page_writes is off, so a crash can corrupt tables; set full_page_writes = on in postgresql.conf")
	case s.has("synchronous_commit", "off"):
		return refuse("synchronous_commit is off, so a crash can lose rides whose cards were charged; set it to on for role %q", s.role)
	case s.has("synchronous_commit", "local"):
		return refuse("synchronous_commit is local, so a fail-over can lose rides whose cards were charged, although there is a "+
			"synchronous standby; set it to on for role %q", s.role)
	case s.inRecovery:
		return refuse("this server is a standby and takes no writes; point the database URL at the primary")
	case s.has("default_transaction_read_only", "on"):
		return refuse("default_transaction_read_only is on, so nothing can be written; set it to off for role %q in database %q", s.role, s.database)
	}
	return s.checkRole()
}

// checkRole returns an error if a setting is unsafe that `api migrate` gives to
// the role. Without its time-outs, a phase that hangs would keep its locks, and
// with them its key, for ever. Without warnings, the role would not learn that
// a commit may be lost; see TookDoubtfulCommit.
func (s session) checkRole() error {
	for _, setting := range roleSettings {
		if !s.has(setting.name, setting.unsafe...) {
			continue
		}
		return refuse("role %q has %s = %s in database %q, so %s. "+
			"Either `api migrate` was not run as this role, or the database was restored from a dump, which lacks the settings of roles; "+
			"run `api migrate` as this role, and take %s out of the database URL if it is there",
			s.role, setting.name, s.settings[setting.name][1], s.database, setting.so, setting.name)
	}
	return nil
}

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errUnsafeSettings}, args...)...)
}
