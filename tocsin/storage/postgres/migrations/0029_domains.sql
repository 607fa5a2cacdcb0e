-- monitors: when the registration of their domain ends (RDAP)
-- depends: 0028_probes

-- migrate: apply

ALTER TABLE network_monitors ADD COLUMN domain text;                   -- whose registration is watched
CREATE INDEX network_monitors_domain ON network_monitors (domain, id) WHERE domain IS NOT NULL;

-- One row for each domain, however many monitors watch it.
CREATE TABLE domains (
    name       text PRIMARY KEY,
    ask_at     timestamptz NOT NULL DEFAULT now(),                     -- its registry
    judge_at   timestamptz NOT NULL DEFAULT 'infinity',                -- what its monitors make of the answer
    asked_at   timestamptz,
    expires_at timestamptz,
    registrar  text,
    problem    text
);
CREATE INDEX domains_ask_at ON domains (ask_at);
CREATE INDEX domains_judge_at ON domains (judge_at);

-- Which registry knows which suffixes (RFC 9224), and until when that need not be fetched again.
CREATE TABLE rdap_services (
    single   boolean PRIMARY KEY DEFAULT true CHECK (single),
    fetch_at timestamptz NOT NULL,
    services jsonb NOT NULL
);

-- Registries that want to be left alone.
CREATE TABLE rdap_pauses (
    service text PRIMARY KEY,
    until   timestamptz NOT NULL
);

-- migrate: rollback

WITH ended AS (DELETE FROM ongoing WHERE type = 'domain_expiry' AND dedup_key <> '' RETURNING incident_id)
UPDATE incidents SET closed_at = now(), updated_at = now(), resolved_by = 'It is not watched any more'
WHERE id IN (SELECT incident_id FROM ended);
DROP TABLE rdap_pauses, rdap_services, domains;
ALTER TABLE network_monitors DROP COLUMN domain;
UPDATE network_monitors SET options = options - 'domain_days';
