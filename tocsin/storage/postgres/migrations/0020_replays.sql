-- replays: what a receiver missed while it was down is sent again; the delivery log by a rare status; what was not delivered
-- depends: 0019_on_call

-- migrate: apply

CREATE TABLE replays (
    id             uuid PRIMARY KEY,
    project_id     uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
    integration_id uuid NOT NULL,                              -- it may be deleted; this stays on record
    from_at        timestamptz NOT NULL,                       -- of the deliveries' creation; `to_at` is excluded
    to_at          timestamptz NOT NULL,
    status         text NOT NULL CHECK (status IN ('dead', 'suppressed', 'delivered')),
    state          text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'finished', 'stopped')),
    reason         text,                                       -- what it waits for, or why it was stopped
    total          integer NOT NULL,                           -- how many there are to send
    queued         integer NOT NULL DEFAULT 0,                 -- how many of them were queued so far
    delivered      integer NOT NULL DEFAULT 0,
    dead           integer NOT NULL DEFAULT 0,
    suppressed     integer NOT NULL DEFAULT 0,
    last_taken     uuid,                                       -- the original that was queued last
    outstanding    uuid[] NOT NULL DEFAULT '{}',               -- redeliveries that have not finished
    at_once        integer NOT NULL DEFAULT 1,                 -- how many redeliveries may be outstanding
    dead_in_row    integer NOT NULL DEFAULT 0,
    next_step_at   timestamptz DEFAULT now(),                  -- null: nothing is left to do
    created_by     text NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    finished_at    timestamptz
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX replays_running ON replays (integration_id) WHERE state = 'running';
CREATE INDEX replays_due ON replays (next_step_at) WHERE next_step_at IS NOT NULL;
CREATE INDEX replays_by_integration ON replays (integration_id, id);

-- Most deliveries are delivered and original, and the hot path writes those: they are in neither.
CREATE INDEX finished_not_delivered ON finished (integration_id, id) WHERE status <> 'delivered';
CREATE INDEX finished_dead ON finished (project_id, finished_at) WHERE status = 'dead';
CREATE INDEX finished_redeliveries ON finished (redelivery_of) WHERE redelivery_of IS NOT NULL;

-- migrate: rollback

DROP INDEX finished_not_delivered, finished_dead, finished_redeliveries;
DROP TABLE replays;
