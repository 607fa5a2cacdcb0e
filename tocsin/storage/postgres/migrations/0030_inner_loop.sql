-- the inner loop and the call that says that it works; when deliveries were due, and how many were first tried late
-- depends: 0029_domains

-- migrate: apply

CREATE TABLE inner_loop (
    only_row     boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    began_at     timestamptz NOT NULL DEFAULT now(),           -- the latest round
    incident_id  uuid,                                         -- of the round under way; null: none is
    resolving    boolean NOT NULL DEFAULT false,
    worked_at    timestamptz,
    took         double precision,                             -- seconds, of the last round that went through
    called_at    timestamptz,                                  -- TOCSIN_HEARTBEAT_URL
    call_problem text                                          -- null: it answered
) WITH (fillfactor = 10);

ALTER TABLE finished ADD COLUMN released_at timestamptz;       -- when its turn came; null: it never waited for one
CREATE INDEX finished_released ON finished (released_at) WHERE released_at IS NOT NULL;

DROP VIEW deliveries;
CREATE VIEW deliveries AS
    SELECT id, project_id, integration_id, integration_type, on_behalf_of, incident_id, event, notice, redelivery_of,
           status, held AS reason, attempt, attempts, created_at, due_at, started_at,
           NULL::timestamptz AS finished_at, released_at
    FROM outstanding
    UNION ALL
    SELECT id, project_id, integration_id, integration_type, on_behalf_of, incident_id, event, notice, redelivery_of,
           status, reason, attempt, attempts, created_at, NULL, NULL, finished_at, released_at
    FROM finished;

-- One row for each part of the time, of deliveries that were due in it.
CREATE TABLE first_tries (
    ended timestamptz PRIMARY KEY,
    tries integer NOT NULL,
    late  integer NOT NULL
);

ALTER TABLE network_monitors ADD COLUMN own_punctuality boolean NOT NULL DEFAULT false;
CREATE INDEX network_monitors_own_punctuality ON network_monitors (project_id) WHERE own_punctuality;

-- migrate: rollback

ALTER TABLE network_monitors DROP COLUMN own_punctuality;
DROP TABLE first_tries;
DROP VIEW deliveries;
ALTER TABLE finished DROP COLUMN released_at;
CREATE VIEW deliveries AS
    SELECT id, project_id, integration_id, integration_type, on_behalf_of, incident_id, event, notice, redelivery_of,
           status, held AS reason, attempt, attempts, created_at, due_at, started_at,
           NULL::timestamptz AS finished_at
    FROM outstanding
    UNION ALL
    SELECT id, project_id, integration_id, integration_type, on_behalf_of, incident_id, event, notice, redelivery_of,
           status, reason, attempt, attempts, created_at, NULL, NULL, finished_at
    FROM finished;

DROP TABLE inner_loop;
DELETE FROM outstanding WHERE project_id = '00000000-0000-7000-8000-000000000001';
DELETE FROM finished WHERE project_id = '00000000-0000-7000-8000-000000000001';
DELETE FROM ongoing WHERE project_id = '00000000-0000-7000-8000-000000000001';
DELETE FROM incidents WHERE project_id = '00000000-0000-7000-8000-000000000001';
DELETE FROM attachments WHERE resource_id = '00000000-0000-7000-8000-000000000002';
DELETE FROM projects WHERE id = '00000000-0000-7000-8000-000000000001';
