-- fire drills, and who has had an incident: each acknowledgement, for its timeline
-- depends: 0021_telegram

-- migrate: apply

CREATE TABLE acknowledgements (
    incident_id uuid NOT NULL,
    project_id  uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
    at          timestamptz NOT NULL,
    by_whom     text NOT NULL,
    until       timestamptz,                                   -- null: until it is resolved
    taken_back  boolean NOT NULL DEFAULT false                 -- this entry takes the one before back
);
CREATE INDEX acknowledgements_by_incident ON acknowledgements (incident_id, at);
CREATE INDEX acknowledgements_old ON acknowledgements (at);

CREATE INDEX ongoing_drills ON ongoing (incident_id) WHERE type = 'drill';

-- migrate: rollback

DROP INDEX ongoing_drills;
DROP TABLE acknowledgements;
