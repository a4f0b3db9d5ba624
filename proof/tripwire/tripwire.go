// Package tripwire installs triggers that watch the rules of the engine from
// inside the database, for tests. Production has no triggers: distributed
// Postgres knows none, and the fence, the primary keys and the CHECKs carry the
// promise. A test wants to hear of a broken rule when it is broken, not when
// the damage shows.
package tripwire

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Install makes the database refuse, with SQLSTATE RR001 to RR003, an UPDATE
// that changes a finished key (but for reaping), lowers an epoch, or moves a
// key to a point that does not come later in its flow, and a DELETE of a key
// that isn't a tombstone (RR004). It logs each change of a key in phase_log, in
// order, with the application_name of the session that made it.
//
// points are a flow's recovery points in order, Started and Finished included.
func Install(ctx context.Context, pool *pgxpool.Pool, points ...string) error {
	if _, err := pool.Exec(ctx, `
		CREATE TABLE phase_log (
		    n          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
		    account_id text, key text, epoch bigint, token uuid, old_token uuid,
		    from_point text, to_point text, xid xid8 DEFAULT pg_current_xact_id(), at timestamptz DEFAULT clock_timestamp(),
		    writer text DEFAULT current_setting('application_name'));

		CREATE INDEX phase_log_account_id_key_idx ON phase_log (account_id, key);

		CREATE TABLE legal_points (point text PRIMARY KEY, n int);

		CREATE FUNCTION watch_key() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
		    IF TG_OP = 'DELETE' THEN
		        IF OLD.reaped_at IS NULL THEN
		            RAISE EXCEPTION 'a key that is no tombstone was deleted' USING ERRCODE = 'RR004';
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
		        RAISE EXCEPTION 'a finished key was changed' USING ERRCODE = 'RR001';
		    END IF;
		    IF NEW.lease_epoch < OLD.lease_epoch THEN
		        RAISE EXCEPTION 'an epoch fell' USING ERRCODE = 'RR002';
		    END IF;
		    IF NEW.recovery_point <> OLD.recovery_point AND NOT EXISTS (
		           SELECT FROM legal_points f, legal_points t
		           WHERE f.point = OLD.recovery_point AND t.point = NEW.recovery_point AND f.n < t.n) THEN
		        RAISE EXCEPTION 'illegal move from % to %', OLD.recovery_point, NEW.recovery_point USING ERRCODE = 'RR003';
		    END IF;
		    INSERT INTO phase_log (account_id, key, epoch, token, old_token, from_point, to_point)
		    VALUES (NEW.account_id, NEW.key, NEW.lease_epoch, NEW.lease_token, OLD.lease_token, OLD.recovery_point, NEW.recovery_point);
		    RETURN NEW;
		END $$;

		CREATE TRIGGER watch_key BEFORE INSERT OR UPDATE OR DELETE ON idempotency_keys
		FOR EACH ROW EXECUTE FUNCTION watch_key();`); err != nil {
		return fmt.Errorf("installing tripwires: %w", err)
	}
	for i, point := range points {
		if _, err := pool.Exec(ctx, `INSERT INTO legal_points VALUES ($1, $2)`, point, i); err != nil {
			return fmt.Errorf("installing tripwires: %w", err)
		}
	}
	return nil
}
