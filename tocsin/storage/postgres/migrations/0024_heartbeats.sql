-- heartbeats: jobs that must report, what they reported, the keys of their addresses; when Tocsin itself was away
-- depends: 0023_dedup_keys

-- migrate: apply

CREATE TABLE heartbeats (
    id         uuid PRIMARY KEY,
    project_id uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
    name       text NOT NULL,
    slug       text,
    period     double precision,                               -- seconds; null: cron
    cron       text,
    timezone   text NOT NULL,
    grace      double precision NOT NULL,
    methods    text NOT NULL DEFAULT '',                       -- 'POST': others are ignored
    paused     boolean NOT NULL DEFAULT false,
    key_hash   bytea NOT NULL UNIQUE,
    key_sealed bytea NOT NULL,
    depends_on jsonb NOT NULL DEFAULT '[]',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((period IS NULL) <> (cron IS NULL))
);
CREATE INDEX heartbeats_by_project ON heartbeats (project_id, id);
CREATE INDEX heartbeats_by_slug ON heartbeats (project_id, slug) WHERE slug IS NOT NULL;

-- What changes with every ping. Only `look_at` is indexed, and a ping leaves it alone unless it has to be earlier.
CREATE TABLE heartbeat_states (
    heartbeat_id     uuid PRIMARY KEY REFERENCES heartbeats ON DELETE CASCADE,
    look_at          timestamptz NOT NULL DEFAULT 'infinity',   -- when to look next whether something is late
    due_at           timestamptz,                              -- when the next success is expected
    missed_at        timestamptz,                              -- the last slot that was missed, until a success
    last_ping_at     timestamptz,
    last_success_at  timestamptz,
    last_duration_ms double precision,
    runs             jsonb NOT NULL DEFAULT '{}',               -- those that have not ended: domain/heartbeats.py
    pings            bigint NOT NULL DEFAULT 0,
    bodies           bigint NOT NULL DEFAULT 0,
    minute           bigint NOT NULL DEFAULT 0,                 -- the last one in which a ping came,
    in_minute        integer NOT NULL DEFAULT 0                 -- and how many came in it
) WITH (fillfactor = 70);
CREATE INDEX heartbeat_states_look ON heartbeat_states (look_at);

CREATE TABLE pings (
    heartbeat_id uuid NOT NULL,
    at           timestamptz NOT NULL,
    n            bigint NOT NULL,                              -- from 1, by heartbeat; 0: gathered ones of a minute
    kind         text NOT NULL,
    exit_status  smallint,
    rid          uuid,
    method       text NOT NULL DEFAULT '',
    duration_ms  double precision,
    body_bytes   integer NOT NULL DEFAULT 0,
    count        integer NOT NULL DEFAULT 1,
    PRIMARY KEY (heartbeat_id, at, n)
) PARTITION BY RANGE (at);
CREATE TABLE pings_other PARTITION OF pings DEFAULT;

-- The last bodies of each heartbeat: a new one takes the place of the oldest. A reference would have pings wait for
-- changes of the heartbeat, which wait for pings.
CREATE TABLE ping_bodies (
    heartbeat_id uuid NOT NULL,
    place        smallint NOT NULL,
    n            bigint NOT NULL,
    body         text NOT NULL,
    PRIMARY KEY (heartbeat_id, place)
);

-- One key for all of a project's heartbeats, which are then named by their slugs.
CREATE TABLE ping_keys (
    id         uuid PRIMARY KEY REFERENCES projects ON DELETE CASCADE,
    key_hash   bytea NOT NULL UNIQUE,
    key_sealed bytea NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- Times in which no API process took reports and pings.
CREATE TABLE outages (
    ended timestamptz PRIMARY KEY,
    began timestamptz NOT NULL
);

-- migrate: rollback

DROP TABLE outages;
DROP TABLE ping_keys;
DROP TABLE ping_bodies;
DROP TABLE pings;
DROP TABLE heartbeat_states;
DROP TABLE heartbeats;
