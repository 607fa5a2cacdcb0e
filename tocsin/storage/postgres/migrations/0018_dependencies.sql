-- what a resource depends on: as its owner wrote it, and flat, to be looked up from both ends
-- depends: 0017_silences

-- migrate: apply

ALTER TABLE servers ADD COLUMN depends_on jsonb NOT NULL DEFAULT '[]';          -- with public identifiers
ALTER TABLE network_monitors ADD COLUMN depends_on jsonb NOT NULL DEFAULT '[]';

CREATE TABLE dependencies (
    child_id          uuid NOT NULL,
    parent_id         uuid NOT NULL,
    project_id        uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
    parent_well_since timestamptz,                             -- when the parent was last well again
    PRIMARY KEY (child_id, parent_id)
) WITH (fillfactor = 70);
-- Of one column: whoever asks for a child would be answered from all of an index that has it, one parent after the other.
CREATE INDEX dependencies_by_parent ON dependencies (parent_id);
CREATE INDEX dependencies_by_project ON dependencies (project_id);

ALTER TABLE monitor_states ADD COLUMN last_problem text;       -- of the last check, where it failed
ALTER TABLE monitor_states ADD COLUMN last_result_at timestamptz;               -- when that check was over
ALTER TABLE monitor_states ADD COLUMN asked_at timestamptz;     -- when a child's failure last made it due at once
UPDATE monitor_states SET last_result_at = last_check_at;

ALTER TABLE checks ADD COLUMN unreachable boolean NOT NULL DEFAULT false;       -- failed, and a parent explains it

-- At this one, it is said that Tocsin itself had no way out (storage/monitoring/connectivity.py).
ALTER TABLE network_monitors ADD COLUMN own_connectivity boolean NOT NULL DEFAULT false;
CREATE INDEX network_monitors_own_connectivity ON network_monitors (project_id) WHERE own_connectivity;

-- migrate: rollback

ALTER TABLE network_monitors DROP COLUMN own_connectivity;
ALTER TABLE checks DROP COLUMN unreachable;
ALTER TABLE monitor_states DROP COLUMN asked_at;
ALTER TABLE monitor_states DROP COLUMN last_result_at;
ALTER TABLE monitor_states DROP COLUMN last_problem;
DROP TABLE dependencies;
ALTER TABLE network_monitors DROP COLUMN depends_on;
ALTER TABLE servers DROP COLUMN depends_on;
