-- silences, and their spans of the weeks to come
-- depends: 0016_notifying

-- migrate: apply

CREATE TABLE silences (
    id             uuid PRIMARY KEY,
    project_id     uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
    name           text NOT NULL,
    starts_at      timestamptz NOT NULL,
    ends_at        timestamptz,                                -- null: its recurrence goes on
    rrule          text,                                       -- RFC 5545; null: one span
    duration       integer,                                    -- seconds of each span
    timezone       text,
    resources      uuid[],                                     -- null, here and below: all
    integrations   uuid[],
    incident_types text[],
    severity       text CHECK (severity IN ('critical', 'warning', 'info')),
    public         boolean NOT NULL DEFAULT false,             -- shown on status pages
    expanded_until timestamptz NOT NULL,                       -- how far silence_spans has its spans
    over_at        timestamptz,                                -- the end of its last span, as soon as that is known
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    CHECK ((rrule IS NULL) = (duration IS NULL) AND (rrule IS NULL) = (timezone IS NULL)),
    CHECK (rrule IS NOT NULL OR ends_at IS NOT NULL)
);
CREATE INDEX silences_by_project ON silences (project_id, id);
CREATE INDEX silences_to_extend ON silences (expanded_until) WHERE over_at IS NULL;
CREATE INDEX silences_by_resource ON silences USING gin (resources) WITH (fastupdate = off) WHERE resources IS NOT NULL;
CREATE INDEX silences_by_integration ON silences USING gin (integrations) WITH (fastupdate = off) WHERE integrations IS NOT NULL;

CREATE TABLE silence_spans (
    silence_id uuid NOT NULL REFERENCES silences ON DELETE CASCADE,
    project_id uuid NOT NULL,
    span       tstzrange NOT NULL,
    everything boolean NOT NULL                                -- its silence is limited to no resources
);
CREATE INDEX silence_spans_by_silence ON silence_spans (silence_id);
-- By project and time: there is no index of both by equality and overlap without an extension.
CREATE INDEX silence_spans_by_time ON silence_spans
    USING gist (int8range(uuid_hash(project_id), uuid_hash(project_id), '[]'), span) WHERE everything;
CREATE INDEX silence_spans_ended ON silence_spans (upper(span));

-- migrate: rollback

DROP TABLE silence_spans;
DROP TABLE silences;
