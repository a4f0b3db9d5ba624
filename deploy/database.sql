-- Makes the role of the service in a new Postgres, and schemas for it. The
-- image of Postgres runs this file once, as its superuser, in the database
-- POSTGRES_DB, before it listens on the network.
--
-- WARNING: run it nowhere else. It takes away the password of the role that
-- runs it, and everybody's right to connect to the databases rocketrides,
-- postgres and template1. docs/operating.md has the SQL for another server,
-- under "Start".
--
-- The role owns two schemas and nothing else. Postgres looks for tables in the
-- schema that is named like the role before any other, so `api migrate`, which
-- runs as this role, makes the tables there. Those of the job queue River are
-- in the schema river.

-- The password is that of the URL, so that it is stored in one file only. It
-- is taken as it stands: choose one that needs no percent-encoding.
DO $$
DECLARE
    url      text := pg_read_file('/run/secrets/database_url');
    password text := substring(url FROM '^postgres(?:ql)?://rocketrides:([^@/\s]+)@');
BEGIN
    IF password IS NULL OR position('%' IN password) > 0 THEN
        RAISE 'the secret database_url must be postgres://rocketrides:PASSWORD@HOST:PORT/rocketrides, without %% in the password';
    END IF;
    EXECUTE format('CREATE ROLE rocketrides LOGIN PASSWORD %L', password);
END
$$;

REVOKE ALL ON DATABASE rocketrides, postgres, template1 FROM PUBLIC;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT CONNECT ON DATABASE rocketrides TO rocketrides;
CREATE SCHEMA AUTHORIZATION rocketrides;
CREATE SCHEMA river AUTHORIZATION rocketrides;

-- Without a password the superuser can log in only from inside the container:
-- `docker compose exec postgres psql -U postgres rocketrides`.
ALTER ROLE CURRENT_USER PASSWORD NULL;
