-- the requests that opened and resolved an incident, or asked for a delivery, and their places in a trace
-- depends: 0031_failovers

-- migrate: apply

ALTER TABLE incidents
    ADD COLUMN origin         text,                            -- domain/requests.py; null: no request, Tocsin itself
    ADD COLUMN resolve_origin text;
ALTER TABLE outstanding ADD COLUMN origin text;                -- null: as its incident's
ALTER TABLE finished ADD COLUMN origin text;

DROP VIEW deliveries;
CREATE VIEW deliveries AS
    SELECT id, project_id, integration_id, integration_type, on_behalf_of, incident_id, event, notice, redelivery_of,
           status, held AS reason, attempt, attempts, created_at, due_at, started_at,
           NULL::timestamptz AS finished_at, released_at, origin
    FROM outstanding
    UNION ALL
    SELECT id, project_id, integration_id, integration_type, on_behalf_of, incident_id, event, notice, redelivery_of,
           status, reason, attempt, attempts, created_at, NULL, NULL, finished_at, released_at, origin
    FROM finished;

-- migrate: rollback

DROP VIEW deliveries;
ALTER TABLE finished DROP COLUMN origin;
ALTER TABLE outstanding DROP COLUMN origin;
ALTER TABLE incidents DROP COLUMN origin, DROP COLUMN resolve_origin;
CREATE VIEW deliveries AS
    SELECT id, project_id, integration_id, integration_type, on_behalf_of, incident_id, event, notice, redelivery_of,
           status, held AS reason, attempt, attempts, created_at, due_at, started_at,
           NULL::timestamptz AS finished_at, released_at
    FROM outstanding
    UNION ALL
    SELECT id, project_id, integration_id, integration_type, on_behalf_of, incident_id, event, notice, redelivery_of,
           status, reason, attempt, attempts, created_at, NULL, NULL, finished_at, released_at
    FROM finished;
