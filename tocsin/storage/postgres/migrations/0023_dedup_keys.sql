-- a resource may have several incidents of one type at once, kept apart by a key; what its reporter says besides
-- depends: 0022_drills

-- migrate: apply

ALTER TABLE ongoing ADD COLUMN dedup_key text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE ongoing DROP CONSTRAINT ongoing_pkey;
ALTER TABLE ongoing ADD PRIMARY KEY (resource_id, type, dedup_key);
ALTER TABLE incidents ADD COLUMN dedup_key text COLLATE "C" NOT NULL DEFAULT '', ADD COLUMN details jsonb;

-- migrate: rollback

DELETE FROM ongoing WHERE dedup_key <> '';
ALTER TABLE incidents DROP COLUMN dedup_key, DROP COLUMN details;
ALTER TABLE ongoing DROP CONSTRAINT ongoing_pkey;
ALTER TABLE ongoing DROP COLUMN dedup_key;
ALTER TABLE ongoing ADD PRIMARY KEY (resource_id, type);
