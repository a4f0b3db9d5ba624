// Package tripwire installs triggers that watch invariants of internal/phases
// from inside the database, for tests. Production has no triggers: distributed
// Postgres has none, and the fence, the primary keys and the CHECKs keep the
// promise. A test must notice a broken invariant when it is broken, not when
// the damage shows.
package tripwire

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// Invariant returns the number of the invariant that the statement broke which
// was refused with a SQLSTATE of this package, or "".
func Invariant(sqlstate string) string {
	switch sqlstate {
	case "RR001":
		return "I8"
	case "RR002", "RR003":
		return "I7"
	case "RR004":
		return "I22"
	default:
		return ""
	}
}

// Install makes the database refuse these changes of keys, each with a SQLSTATE
// of its own:
//
//	RR001  an UPDATE of a finished key, except to reap it (I8)
//	RR002  an UPDATE that lowers a lease epoch (I7)
//	RR003  an UPDATE to a point that does not come later in its flow, in any
//	       version (I7)
//	RR004  a DELETE of a key that is not a tombstone (I22)
//
// All other changes of keys are logged in the table phase_log, in order, with
// the application_name of the session that made them.
//
// flows are those of the keys.
func Install(ctx context.Context, pool *pgxpool.Pool, flows ...phases.Flow) error {
	if _, err := pool.Exec(ctx, `
		CREATE TABLE phase_log (
		    n          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
		    account_id text, key text, epoch bigint, token uuid, old_token uuid,
		    from_point text, to_point text, xid xid8 DEFAULT pg_current_xact_id(), at timestamptz DEFAULT clock_timestamp(),
		    writer text DEFAULT current_setting('application_name'));

		CREATE INDEX phase_log_account_id_key_idx ON phase_log (account_id, key);

		CREATE TABLE legal_points (flow text, version int, point text, n int, PRIMARY KEY (flow, version, point));

		CREATE FUNCTION watch_key() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
		    IF TG_OP = 'DELETE' THEN
		        IF OLD.reaped_at IS NULL THEN
		            RAISE EXCEPTION 'I22: a key that is not a tombstone was deleted' USING ERRCODE = 'RR004';
		        END IF;
		        RETURN OLD;
		    END IF;
		    IF TG_OP = 'INSERT' THEN
		        INSERT INTO phase_log (account_id, key, epoch, token, from_point, to_point)
		        VALUES (NEW.account_id, NEW.key, NEW.lease_epoch, NEW.lease_token, NULL, NEW.recovery_point);
		        RETURN NEW;
		    END IF;
		    IF OLD.finished_at IS NOT NULL AND (
		           NEW.reaped_at IS NULL OR NEW.finished_at IS DISTINCT FROM OLD.finished_at
		           OR NEW.recovery_point IS DISTINCT FROM OLD.recovery_point OR NEW.lease_token IS NOT NULL) THEN
		        RAISE EXCEPTION 'I8: a finished key was changed' USING ERRCODE = 'RR001';
		    END IF;
		    IF NEW.lease_epoch < OLD.lease_epoch THEN
		        RAISE EXCEPTION 'I7: a lease epoch was lowered' USING ERRCODE = 'RR002';
		    END IF;
		    IF NEW.recovery_point <> OLD.recovery_point AND NOT EXISTS (
		           SELECT FROM legal_points f, legal_points t
		           WHERE f.flow = NEW.flow AND t.flow = f.flow AND t.version = f.version
		             AND f.point = OLD.recovery_point AND t.point = NEW.recovery_point AND f.n < t.n) THEN
		        RAISE EXCEPTION 'I7: a key of % moved from % to %', NEW.flow, OLD.recovery_point, NEW.recovery_point USING ERRCODE = 'RR003';
		    END IF;
		    INSERT INTO phase_log (account_id, key, epoch, token, old_token, from_point, to_point)
		    VALUES (NEW.account_id, NEW.key, NEW.lease_epoch, NEW.lease_token, OLD.lease_token, OLD.recovery_point, NEW.recovery_point);
		    RETURN NEW;
		END $$;

		CREATE TRIGGER watch_key BEFORE INSERT OR UPDATE OR DELETE ON idempotency_keys
		FOR EACH ROW EXECUTE FUNCTION watch_key();`); err != nil {
		return fmt.Errorf("installing tripwires: %w", err)
	}
	for _, flow := range flows {
		if _, err := pool.Exec(ctx, `
			INSERT INTO legal_points
			SELECT $1, $2, point, n
			FROM unnest($3::text[]) WITH ORDINALITY AS points (point, n)`, flow.Name(), flow.Version(), flow.RecoveryPoints()); err != nil {
			return fmt.Errorf("installing tripwires: %w", err)
		}
	}
	return nil
}
