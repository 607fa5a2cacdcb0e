-- which kinds of resource there are is said by one file each (tocsin/domain/resources), not by the schema
-- depends: 0013_units_and_clocks

-- migrate: apply

ALTER TABLE incidents DROP CONSTRAINT incidents_resource_type_check;

-- migrate: rollback

ALTER TABLE incidents ADD CONSTRAINT incidents_resource_type_check
    CHECK (resource_type IN ('Server', 'NetworkMonitor')) NOT VALID;
