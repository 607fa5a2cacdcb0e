-- the incidents of one server or monitor, for its page: looked up, however many the project has had
-- depends: 0008_keys

-- migrate: apply

CREATE INDEX incidents_by_resource ON incidents (resource_id, id);

-- migrate: rollback
