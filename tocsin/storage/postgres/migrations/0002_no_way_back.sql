-- the point of no return of what may happen once only
-- depends: 0001_the_spine

-- migrate: apply

ALTER TABLE outstanding ADD COLUMN crossed boolean NOT NULL DEFAULT false;  -- it may have happened: never again

-- migrate: rollback
