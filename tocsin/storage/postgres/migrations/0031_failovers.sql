-- who is the primary, by its timeline, and what may be lost with it; which engines live, since when
-- depends: 0030_inner_loop

-- migrate: apply

CREATE TABLE timeline (
    only_row        boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    cluster         bigint NOT NULL,                           -- pg_control_system(): another after a dump was loaded
    number          integer NOT NULL,                          -- one higher after each promotion
    since           timestamptz NOT NULL DEFAULT '-infinity',  -- when it was noticed
    synchronous     boolean NOT NULL DEFAULT false,            -- whether synchronous_standby_names is set
    standby_seen_at timestamptz                                -- when one was last seen, or several hosts were named
) WITH (fillfactor = 10);

INSERT INTO timeline (cluster, number)
SELECT (SELECT system_identifier FROM pg_control_system()),
       ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int;

ALTER TABLE engines ADD COLUMN machine text NOT NULL DEFAULT '';
ALTER TABLE engines ADD COLUMN since timestamptz NOT NULL DEFAULT now();

-- migrate: rollback

ALTER TABLE engines DROP COLUMN since;
ALTER TABLE engines DROP COLUMN machine;
DROP TABLE timeline;
