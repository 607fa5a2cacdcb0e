-- probes: places from which monitors are checked, and what each place saw last
-- depends: 0027_agents

-- migrate: apply

CREATE TABLE probes (
    id           uuid PRIMARY KEY,
    project_id   uuid NOT NULL REFERENCES projects ON DELETE CASCADE,  -- whose incident it is if it is silent
    name         text COLLATE "C" NOT NULL,                    -- of its place; in lower case
    token_hash   bytea UNIQUE,                                 -- null once it is revoked
    only_project uuid REFERENCES projects ON DELETE CASCADE,   -- null: every project may use it
    version      text NOT NULL DEFAULT '',                     -- what it said last
    last_seq     bigint NOT NULL DEFAULT 0,                    -- of the results that have come
    seen_at      timestamptz,
    revoked_at   timestamptz,
    depends_on   jsonb NOT NULL DEFAULT '[]',
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX probes_by_name ON probes (name);
CREATE INDEX probes_by_project ON probes (project_id, id);

ALTER TABLE network_monitors ADD COLUMN locations text[];      -- null: here only, as if there were no places
ALTER TABLE checks ADD COLUMN place text;                      -- null: here

CREATE SEQUENCE place_changes;

-- A row for each place that checks a monitor with locations, and its vote. Votes change no column that is indexed.
CREATE TABLE monitor_places (
    monitor_id  uuid NOT NULL REFERENCES network_monitors ON DELETE CASCADE,
    place       text COLLATE "C" NOT NULL,                     -- 'here', or the name of a probe
    version     timestamptz NOT NULL,                          -- of what is checked: votes on another do not count
    change      bigint NOT NULL,                               -- counts what probes have to be told, in order of commits
    round       bigint,                                        -- of the last vote
    at          timestamptz,                                   -- when its check began
    heard_at    timestamptz,                                   -- when it came
    failures    integer NOT NULL DEFAULT 0,                    -- in a row
    successes   integer NOT NULL DEFAULT 0,                    -- in a row
    problem     text,
    message     text,
    status_code integer,
    response_ms double precision,
    found       jsonb NOT NULL DEFAULT '[]',                   -- beside the vote: type and fingerprint of each
    asked_at    timestamptz,                                   -- it is to check at once, unless heard since
    PRIMARY KEY (monitor_id, place)
) WITH (fillfactor = 70);
CREATE INDEX monitor_places_changes ON monitor_places (place, change);
CREATE INDEX monitor_places_asked ON monitor_places (place, asked_at) WHERE asked_at IS NOT NULL;

-- migrate: rollback

DROP TABLE monitor_places;
DROP SEQUENCE place_changes;
ALTER TABLE checks DROP COLUMN place;
ALTER TABLE network_monitors DROP COLUMN locations;
DELETE FROM attachments a USING probes p WHERE a.resource_id = p.id;
WITH ended AS (DELETE FROM ongoing o USING probes p WHERE o.resource_id = p.id RETURNING o.incident_id)
UPDATE incidents SET closed_at = now(), updated_at = now(), resolved_by = 'It is not watched any more'
WHERE id IN (SELECT incident_id FROM ended);
DROP TABLE probes;
