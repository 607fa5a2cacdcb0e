-- keys made by the server where it can (PostgreSQL 18): a third of the cost, and in order within a millisecond
-- depends: 0002_no_way_back

-- migrate: apply

DO $$
BEGIN
    IF current_setting('server_version_num')::integer >= 180000 THEN
        CREATE OR REPLACE FUNCTION new_id() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE RETURN uuidv7();
    END IF;
END
$$;

-- migrate: rollback
