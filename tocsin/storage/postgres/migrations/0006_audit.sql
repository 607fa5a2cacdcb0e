-- who changed what and when, in a project or in the installation
-- depends: 0002_no_way_back

-- migrate: apply

CREATE TABLE audit (
    id         uuid PRIMARY KEY DEFAULT new_id(),
    project_id uuid REFERENCES projects ON DELETE CASCADE,     -- null: what concerns the whole installation
    who        text NOT NULL,                                  -- as they were called then: users may go
    action     text NOT NULL,
    subject    text NOT NULL,
    details    jsonb NOT NULL DEFAULT '{}',                    -- what a project's members may all see: no secrets
    at         timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX audit_by_project ON audit (project_id, id);

-- migrate: rollback
