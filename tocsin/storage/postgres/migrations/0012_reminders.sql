-- the event of what is said when a snooze is over
-- depends: 0010_audit_by_who

-- migrate: apply

ALTER TABLE outstanding
    DROP CONSTRAINT outstanding_event_check,
    ADD CONSTRAINT outstanding_event_check CHECK (event IN ('opened', 'reminder', 'resolved', 'test', 'notice'));

-- migrate: rollback
