-- who is notified when: severity, acknowledgement, what attachments ask for, deliveries that wait for their turn
-- depends: 0015_words

-- migrate: apply

ALTER TABLE incidents
    ADD COLUMN severity text NOT NULL DEFAULT 'critical' CHECK (severity IN ('critical', 'warning', 'info')),
    ADD COLUMN acknowledged_at timestamptz,
    ADD COLUMN acknowledged_by text,
    ADD COLUMN acknowledged_until timestamptz,                 -- null: until it is resolved
    ADD COLUMN silenced_by uuid;                               -- the silence during which it opened

ALTER TABLE ongoing
    ADD COLUMN severity text NOT NULL DEFAULT 'critical',      -- as the incident's
    ADD COLUMN rearm_at timestamptz,                           -- when an acknowledgement runs out
    ADD COLUMN summarised uuid[] NOT NULL DEFAULT '{}';        -- integrations that were told in a summary
CREATE INDEX ongoing_to_rearm ON ongoing (rearm_at) WHERE rearm_at IS NOT NULL;

ALTER TABLE integrations
    ADD COLUMN attach_all_options jsonb,                       -- domain/notifying.py: of attachments to everything
    ADD COLUMN flood jsonb;                                    -- domain/floods.py; null: none
UPDATE integrations SET flood = '{"incidents": 10, "seconds": 300}'
WHERE for_people AND type <> 'Integrations::SmsIntegration';

ALTER TABLE attachments
    ADD COLUMN to_everything boolean NOT NULL DEFAULT false,   -- made by attaching to everything
    ADD COLUMN after integer NOT NULL DEFAULT 0,               -- seconds
    ADD COLUMN repeat integer,                                 -- seconds
    ADD COLUMN incident_types text[],
    ADD COLUMN severity text,
    ADD COLUMN hours jsonb,                                    -- domain/hours.py
    ADD COLUMN at_once boolean NOT NULL DEFAULT true;          -- notified without a decision, unless silenced
UPDATE attachments a SET to_everything = i.attach_all, at_once = NOT i.for_people
FROM integrations i WHERE i.id = a.integration_id;

ALTER TABLE outstanding
    ADD COLUMN held text,                                      -- what it waits for, in words: no engine claims it
    ADD COLUMN on_behalf_of uuid,                              -- the on-call integration that passed it on
    ADD COLUMN released_at timestamptz,                        -- when its turn came
    ADD COLUMN summary boolean NOT NULL DEFAULT false;         -- it waits for the next summary
DROP INDEX outstanding_pending;
CREATE INDEX outstanding_pending ON outstanding (integration_id, due_at)
    WHERE status = 'pending' AND blocked_by IS NULL AND held IS NULL;
CREATE INDEX outstanding_held ON outstanding (due_at) WHERE held IS NOT NULL;
CREATE INDEX outstanding_held_by_project ON outstanding (project_id) WHERE held IS NOT NULL;
ALTER TABLE outstanding
    DROP CONSTRAINT outstanding_event_check,
    ADD CONSTRAINT outstanding_event_check
        CHECK (event IN ('opened', 'reminder', 'acknowledged', 'resolved', 'test', 'notice'));

ALTER TABLE finished ADD COLUMN on_behalf_of uuid;

DROP VIEW deliveries;
CREATE VIEW deliveries AS
    SELECT id, project_id, integration_id, integration_type, on_behalf_of, incident_id, event, notice, redelivery_of,
           status, held AS reason, attempt, attempts, created_at, due_at, started_at,
           NULL::timestamptz AS finished_at
    FROM outstanding
    UNION ALL
    SELECT id, project_id, integration_id, integration_type, on_behalf_of, incident_id, event, notice, redelivery_of,
           status, reason, attempt, attempts, created_at, NULL, NULL, finished_at
    FROM finished;

-- How many incidents people were told of one by one, in the present span of an integration (domain/floods.py).
CREATE TABLE floods (
    integration_id uuid PRIMARY KEY REFERENCES integrations ON DELETE CASCADE,
    ends_at        timestamptz NOT NULL,
    told           jsonb NOT NULL                              -- incidents by resource
) WITH (fillfactor = 50);

-- migrate: rollback

DROP TABLE floods;
DROP VIEW deliveries;
ALTER TABLE finished DROP COLUMN on_behalf_of;
DELETE FROM outstanding WHERE held IS NOT NULL OR event = 'acknowledged';
ALTER TABLE outstanding
    DROP CONSTRAINT outstanding_event_check,
    ADD CONSTRAINT outstanding_event_check CHECK (event IN ('opened', 'reminder', 'resolved', 'test', 'notice'));
DROP INDEX outstanding_held_by_project, outstanding_held, outstanding_pending;
CREATE INDEX outstanding_pending ON outstanding (integration_id, due_at)
    WHERE status = 'pending' AND blocked_by IS NULL;
ALTER TABLE outstanding DROP COLUMN held, DROP COLUMN on_behalf_of, DROP COLUMN released_at,
    DROP COLUMN summary;
ALTER TABLE attachments DROP COLUMN to_everything, DROP COLUMN after, DROP COLUMN repeat, DROP COLUMN incident_types,
    DROP COLUMN severity, DROP COLUMN hours, DROP COLUMN at_once;
ALTER TABLE integrations DROP COLUMN attach_all_options, DROP COLUMN flood;
ALTER TABLE ongoing DROP COLUMN severity, DROP COLUMN rearm_at, DROP COLUMN summarised;
ALTER TABLE incidents DROP COLUMN severity, DROP COLUMN acknowledged_at, DROP COLUMN acknowledged_by,
    DROP COLUMN acknowledged_until, DROP COLUMN silenced_by;
CREATE VIEW deliveries AS
    SELECT id, project_id, integration_id, integration_type, incident_id, event, notice, redelivery_of, status,
           NULL::text AS reason, attempt, attempts, created_at, due_at, started_at, NULL::timestamptz AS finished_at
    FROM outstanding
    UNION ALL
    SELECT id, project_id, integration_id, integration_type, incident_id, event, notice, redelivery_of, status,
           reason, attempt, attempts, created_at, NULL, NULL, finished_at
    FROM finished;
