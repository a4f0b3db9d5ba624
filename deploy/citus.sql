-- Distributes the tables over a Citus cluster, so that all rows of an account are together on one node. The other
-- tables stay on the coordinator.
--
-- Run it there after the first `api migrate`, before the servers start, as the role that owns the tables:
--
--     psql --host=HOST --username=rocketrides --dbname=rocketrides --file=deploy/citus.sql
--
-- psql asks for the password, which no command line should show.
--
-- Later migrations reach the nodes by themselves. After one that made a table, run this again: what is distributed
-- already stays as it is.

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'accounts', 'api_keys', 'idempotency_keys', 'rides', 'audit_records', 'staged_jobs',
        'callback_endpoints', 'callbacks', 'stripe_events', 'open_intents'
    ] LOOP
        CONTINUE WHEN EXISTS (SELECT 1 FROM pg_dist_partition WHERE logicalrelid = name::regclass);
        IF name = 'accounts' THEN
            PERFORM create_distributed_table(name, 'id', colocate_with => 'none');
        ELSE
            PERFORM create_distributed_table(name, 'account_id', colocate_with => 'accounts');
        END IF;
    END LOOP;
END $$;
