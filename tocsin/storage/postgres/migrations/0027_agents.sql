-- servers: swap, load, every file system, failed units
-- depends: 0026_checks

-- migrate: apply

ALTER TABLE servers ADD COLUMN swap_total_bytes bigint;
UPDATE servers SET alerts = '{"disks": {}, "swap": null, "load": null, "unit_failed": null}' || alerts;
-- what its agent said last: file systems, failed units
ALTER TABLE server_states ADD COLUMN reported jsonb NOT NULL DEFAULT '{}';
ALTER TABLE samples
    ADD COLUMN swap_used_b double precision, ADD COLUMN load_1m double precision, ADD COLUMN disk double precision;
ALTER TABLE samples_hourly
    ADD COLUMN swap_used_b double precision, ADD COLUMN load_1m double precision, ADD COLUMN disk double precision;

-- migrate: rollback

WITH ended AS (
    DELETE FROM ongoing o USING servers s
    WHERE o.resource_id = s.id AND o.type IN ('disk', 'unit_failed') AND o.dedup_key <> '' RETURNING o.incident_id
)
UPDATE incidents SET closed_at = now(), updated_at = now(), resolved_by = 'It is not watched any more'
WHERE id IN (SELECT incident_id FROM ended);
ALTER TABLE samples DROP COLUMN swap_used_b, DROP COLUMN load_1m, DROP COLUMN disk;
ALTER TABLE samples_hourly DROP COLUMN swap_used_b, DROP COLUMN load_1m, DROP COLUMN disk;
ALTER TABLE server_states DROP COLUMN reported;
UPDATE servers SET alerts = alerts - '{disks, swap, load, unit_failed}'::text[];
ALTER TABLE servers DROP COLUMN swap_total_bytes;
