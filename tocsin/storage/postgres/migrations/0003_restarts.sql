-- restarts by SSH: what was meant, what was sent, and whether the machine came back
-- depends: 0002_no_way_back

-- migrate: apply

CREATE TABLE restarts (
    delivery_id    uuid PRIMARY KEY,
    project_id     uuid NOT NULL,
    integration_id uuid NOT NULL,
    incident_id    uuid,
    target         text NOT NULL,                              -- host and port as the integration names them
    reached        text,                                       -- the address and port that answered
    boot_id        text,                                       -- of the machine as it was before
    begun_at       timestamptz NOT NULL,
    sent_at        timestamptz,                                -- the point of no return
    silent_at      timestamptz,                                -- when it was first seen not to answer afterwards
    look_at        timestamptz                                 -- when to look next whether it is back; null: no more
);
CREATE INDEX restarts_by_target ON restarts (target, sent_at);
CREATE INDEX restarts_by_address ON restarts (reached, sent_at);
CREATE INDEX restarts_by_incident ON restarts (incident_id, integration_id);
CREATE INDEX restarts_watched ON restarts (look_at) WHERE look_at IS NOT NULL;

-- migrate: rollback
