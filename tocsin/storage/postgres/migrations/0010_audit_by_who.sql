-- the record of changes, of one person
-- depends: 0006_audit

-- migrate: apply

CREATE INDEX audit_by_who ON audit (project_id, who, id);

-- migrate: rollback
