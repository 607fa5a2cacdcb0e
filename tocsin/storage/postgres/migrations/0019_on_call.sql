-- on-call schedules: where their rotations begin, who takes over when, their feeds, and what was warned of
-- depends: 0018_dependencies

-- migrate: apply

CREATE TABLE on_call_schedules (
    on_call_id uuid PRIMARY KEY REFERENCES integrations ON DELETE CASCADE,
    project_id uuid NOT NULL,
    anchor     timestamptz,                                    -- null: when the integration was created
    feed       integer NOT NULL DEFAULT 0,                     -- how often the address of its calendar was changed
    warned     jsonb NOT NULL DEFAULT '[]',                    -- the gaps ahead that people know of
    looked_at  timestamptz                                     -- when gaps were last looked for
);

CREATE TABLE on_call_overrides (
    id             uuid PRIMARY KEY,
    project_id     uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
    on_call_id     uuid NOT NULL REFERENCES integrations ON DELETE CASCADE,
    integration_id uuid NOT NULL REFERENCES integrations ON DELETE CASCADE,
    starts_at      timestamptz NOT NULL,
    ends_at        timestamptz NOT NULL CHECK (ends_at > starts_at)
);
CREATE INDEX on_call_overrides_by_schedule ON on_call_overrides (on_call_id, ends_at);
CREATE INDEX on_call_overrides_by_integration ON on_call_overrides (integration_id);

CREATE INDEX integrations_on_call ON integrations (project_id) WHERE type = 'Integrations::OnCallIntegration';

-- migrate: rollback

DROP INDEX integrations_on_call;
DROP TABLE on_call_overrides;
DROP TABLE on_call_schedules;
