-- sources: other systems that send their alerts, what each said last, and which of its alerts are firing
-- depends: 0024_heartbeats

-- migrate: apply

CREATE TABLE sources (
    id             uuid PRIMARY KEY,
    project_id     uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
    name           text NOT NULL,
    type           text NOT NULL,
    settings       jsonb NOT NULL DEFAULT '{}',
    key_hash       bytea NOT NULL UNIQUE,
    key_sealed     bytea NOT NULL,
    signing_sealed bytea,                                      -- null: what its sender signs is not checked
    stale_after    int,                                        -- seconds; null: nothing ends for not being mentioned
    depends_on     jsonb NOT NULL DEFAULT '[]',
    last_body_at   timestamptz,                                -- to within some seconds
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX sources_by_project ON sources (project_id, id);

CREATE TABLE alerts (
    source_id   uuid NOT NULL REFERENCES sources ON DELETE CASCADE,
    dedup_key   text COLLATE "C" NOT NULL,
    incident_id uuid NOT NULL,
    type        text NOT NULL,                                 -- of its incident
    digest      bytea NOT NULL,                                -- of what was told of it last
    starts_at   timestamptz NOT NULL,
    ends_at     timestamptz,                                   -- unless it is mentioned again; null: not by itself
    PRIMARY KEY (source_id, dedup_key)
);
CREATE INDEX alerts_ending ON alerts (ends_at) WHERE ends_at IS NOT NULL;

CREATE TABLE source_bodies (
    id        uuid PRIMARY KEY,
    source_id uuid NOT NULL REFERENCES sources ON DELETE CASCADE,
    at        timestamptz NOT NULL DEFAULT now(),
    kind      text NOT NULL,                                   -- taken, refused or note
    became    text NOT NULL,                                   -- what became of it, or why nothing
    body      text NOT NULL,
    size      int NOT NULL                                     -- bytes of the whole
);
CREATE INDEX source_bodies_by_source ON source_bodies (source_id, kind, id);

-- migrate: rollback

DROP TABLE source_bodies;
DROP TABLE alerts;
DROP TABLE sources;
