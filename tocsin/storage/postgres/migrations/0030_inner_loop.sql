-- the inner loop: the round under way, when the last one went through, and what became of the call that says so
-- depends: 0029_domains

-- migrate: apply

CREATE TABLE inner_loop (
    only_row     boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    began_at     timestamptz NOT NULL DEFAULT now(),           -- the latest round
    incident_id  uuid,                                         -- of the round under way; null: none is
    resolving    boolean NOT NULL DEFAULT false,
    worked_at    timestamptz,
    took         double precision,                             -- seconds, of the last round that went through
    called_at    timestamptz,                                  -- TOCSIN_HEARTBEAT_URL
    call_problem text                                          -- null: it answered
) WITH (fillfactor = 10);

-- migrate: rollback

DROP TABLE inner_loop;
DELETE FROM outstanding WHERE project_id = '00000000-0000-7000-8000-000000000001';
DELETE FROM finished WHERE project_id = '00000000-0000-7000-8000-000000000001';
DELETE FROM ongoing WHERE project_id = '00000000-0000-7000-8000-000000000001';
DELETE FROM incidents WHERE project_id = '00000000-0000-7000-8000-000000000001';
DELETE FROM attachments WHERE resource_id = '00000000-0000-7000-8000-000000000002';
DELETE FROM projects WHERE id = '00000000-0000-7000-8000-000000000001';
