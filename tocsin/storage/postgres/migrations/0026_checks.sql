-- monitors: options of each type of check, secret ones encrypted
-- depends: 0025_sources

-- migrate: apply

ALTER TABLE network_monitors ADD COLUMN options jsonb NOT NULL DEFAULT '{}', ADD COLUMN sealed bytea;
UPDATE network_monitors SET options = jsonb_strip_nulls(jsonb_build_object(
    'expected_status', expected_status, 'keyword', keyword
));
ALTER TABLE network_monitors DROP COLUMN expected_status, DROP COLUMN keyword;

ALTER TABLE network_monitors ADD COLUMN recoveries integer NOT NULL DEFAULT 1;
ALTER TABLE monitor_states ADD COLUMN successes integer NOT NULL DEFAULT 0;  -- in a row

-- Good checks by response time (domain/percentiles.py): how many in which bucket. Hours from before this have none.
ALTER TABLE checks_hourly ADD COLUMN buckets smallint[] NOT NULL DEFAULT '{}',
    ADD COLUMN bucket_counts integer[] NOT NULL DEFAULT '{}';

-- Monitors that go up and down too often: which incident said so, and when the last change was (domain/flapping.py).
CREATE TABLE flapping (
    resource_id uuid PRIMARY KEY,
    incident_id uuid NOT NULL,
    began_at    timestamptz NOT NULL,                          -- that incident
    since       timestamptz NOT NULL,                          -- the first of those that are counted
    times       integer NOT NULL,
    changed_at  timestamptz NOT NULL
) WITH (fillfactor = 70);

-- migrate: rollback

DROP TABLE flapping;

ALTER TABLE checks_hourly DROP COLUMN buckets, DROP COLUMN bucket_counts;

ALTER TABLE monitor_states DROP COLUMN successes;
ALTER TABLE network_monitors DROP COLUMN recoveries;

ALTER TABLE network_monitors ADD COLUMN expected_status jsonb, ADD COLUMN keyword text;
UPDATE network_monitors SET keyword = options->>'keyword', expected_status = CASE
    WHEN check_type = 'http' THEN coalesce(options->'expected_status', '"2xx"') ELSE options->'expected_status'
END;
ALTER TABLE network_monitors DROP COLUMN options, DROP COLUMN sealed;
