-- Slack: connections that were begun, and the messages that tell of incidents
-- depends: 0002_no_way_back

-- migrate: apply

-- Good once, and for ten minutes.
CREATE TABLE slack_states (
    hash       bytea PRIMARY KEY,                              -- keyed: the state itself is known to its browser only
    project_id uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
    session_id uuid,                                           -- the browser session that began it; null: by API
    user_id    uuid,
    who        text,                                           -- who began it, where it was no user
    expires_at timestamptz NOT NULL
);
CREATE INDEX slack_states_old ON slack_states (expires_at);

-- Each message that has a Resolve button, or had one.
CREATE TABLE slack_messages (
    integration_id uuid NOT NULL REFERENCES integrations ON DELETE CASCADE,
    incident_id    uuid NOT NULL,
    channel_id     text NOT NULL,
    ts             text NOT NULL,                              -- what Slack calls a message by, within its channel
    closed         boolean NOT NULL,                           -- whether it says that the incident has ended
    at             timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (integration_id, incident_id, channel_id, ts)
);
CREATE INDEX slack_messages_old ON slack_messages (at) WHERE closed;

-- migrate: rollback
