-- accounts, what is watched, integrations, incidents and their deliveries
-- depends:

-- migrate: apply

-- Keys are UUIDs of version 7 (domain/ids.py); their public form is computed, never stored.
CREATE FUNCTION new_id() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN encode(
    set_bit(set_bit(
        overlay(uuid_send(gen_random_uuid())
                PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
                FROM 1 FOR 6),
        52, 1), 53, 1), 'hex')::uuid;

------------------------------------------------------------------------------------------------------------ accounts

CREATE TABLE users (
    id                 uuid PRIMARY KEY DEFAULT new_id(),
    email              text NOT NULL,
    name               text NOT NULL DEFAULT '',
    password_hash      text,                                   -- argon2id; null: cannot sign in with a password
    email_verified_at  timestamptz,
    operator           boolean NOT NULL DEFAULT false,
    current_project_id uuid,
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX users_by_email ON users (lower(email));

CREATE TABLE user_tokens (
    hash       bytea PRIMARY KEY,                              -- keyed hash of the token
    user_id    uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX user_tokens_by_user ON user_tokens (user_id);

-- How much of a limit is used up (sign-ins, mails sent on demand): the moment by which all that was taken is given back.
CREATE UNLOGGED TABLE throttles (
    subject    bytea PRIMARY KEY,                              -- a hash: neither names nor addresses are kept
    free_again timestamptz NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX throttles_old ON throttles (free_again);

CREATE TABLE projects (
    id            uuid PRIMARY KEY DEFAULT new_id(),
    name          text NOT NULL,
    plan          text NOT NULL CHECK (plan IN ('free', 'paid')),
    owner_id      uuid REFERENCES users,
    token_hash    bytea NOT NULL UNIQUE,                       -- keyed hash, for looking a caller up
    token_sealed  bytea NOT NULL,                              -- encrypted, for showing it to its owner
    monitors_made integer NOT NULL DEFAULT 0,                  -- numbers the project's monitors
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX projects_by_owner ON projects (owner_id);

CREATE TABLE members (
    project_id uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
    user_id    uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    role       text NOT NULL CHECK (role IN ('owner', 'member', 'reader')),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, user_id)
);
CREATE INDEX members_by_user ON members (user_id);

-------------------------------------------------------------------------------------------------------- integrations

CREATE TABLE integrations (
    id              uuid PRIMARY KEY,
    project_id      uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
    type            text NOT NULL,
    name            text,                                      -- null: what its type calls it
    settings        jsonb NOT NULL,
    sealed          bytea,                                     -- the secret settings, encrypted
    version         integer NOT NULL DEFAULT 1,                -- raised by each change, so that engines may keep copies
    system          boolean NOT NULL DEFAULT false,            -- the owner's address: neither editable nor deletable
    attach_all      boolean NOT NULL DEFAULT false,
    for_people      boolean NOT NULL,                          -- the two facts of its type that the queue goes by
    repeatable      boolean NOT NULL,
    failing_since   timestamptz,
    failures        integer NOT NULL DEFAULT 0,                -- deliveries that failed for good since then
    disabled_at     timestamptz,
    disabled_reason text,
    probed_at       timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX integrations_by_project ON integrations (project_id, id);
CREATE INDEX integrations_failing ON integrations (failing_since) WHERE failing_since IS NOT NULL;

CREATE TABLE attachments (
    resource_id    uuid NOT NULL,                              -- a server or a network monitor
    integration_id uuid NOT NULL REFERENCES integrations ON DELETE CASCADE,
    created_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (resource_id, integration_id)
);
CREATE INDEX attachments_by_integration ON attachments (integration_id);

------------------------------------------------------------------------------------------------------------- servers

CREATE TABLE servers (
    id                 uuid PRIMARY KEY,
    project_id         uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
    motherboard_id     text NOT NULL,
    hostname           text,
    public_ip          text,
    private_ip         text,
    mac_address        text,
    cpu_cores          integer,
    cpu_model          text,
    operating_system   text,
    kernel_version     text,
    disk_total_bytes   bigint,
    memory_total_bytes bigint,
    agent_version      text NOT NULL,
    alerts             jsonb NOT NULL,                         -- domain/servers.py
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now(),
    UNIQUE (project_id, motherboard_id)
);
CREATE INDEX servers_by_project ON servers (project_id, id);

-- What changes with every report, apart from what does not. Neither is indexed, so that updates stay on their page.
CREATE TABLE server_states (
    server_id    uuid PRIMARY KEY REFERENCES servers ON DELETE CASCADE,
    seen_at      timestamptz NOT NULL,                         -- when the last report arrived
    last_metrics jsonb NOT NULL DEFAULT '{}',
    watch        jsonb NOT NULL DEFAULT '{}',                  -- domain/servers.py: how long what has been over
    silent_at    timestamptz NOT NULL                          -- when to look next whether it has gone silent
) WITH (fillfactor = 70);
CREATE INDEX server_states_silent ON server_states (silent_at);

CREATE TABLE samples (
    server_id   uuid NOT NULL,
    at          timestamptz NOT NULL,
    cpu_used    double precision,
    mem_used_b  double precision,
    disk_used_b double precision,
    net_sent_b  double precision,
    net_recv_b  double precision,
    pkt_sent    double precision,
    pkt_recv    double precision,
    PRIMARY KEY (server_id, at)
) PARTITION BY RANGE (at);
CREATE TABLE samples_other PARTITION OF samples DEFAULT;

CREATE TABLE samples_hourly (LIKE samples INCLUDING ALL) PARTITION BY RANGE (at);
CREATE TABLE samples_hourly_other PARTITION OF samples_hourly DEFAULT;

-- Since when reports have been accepted without a break: silence before that says nothing about a server.
CREATE TABLE listening (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    since    timestamptz NOT NULL,
    seen_at  timestamptz NOT NULL
) WITH (fillfactor = 10);

---------------------------------------------------------------------------------------------------- network monitors

CREATE TABLE network_monitors (
    id              uuid PRIMARY KEY,
    project_id      uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
    number          integer NOT NULL,                          -- `id` in answers: a number within the project
    name            text NOT NULL,
    url             text NOT NULL,
    check_type      text NOT NULL,
    interval        double precision NOT NULL,
    timeout         double precision NOT NULL,
    confirmations   integer NOT NULL,
    expected_status jsonb,
    keyword         text,
    paused          boolean NOT NULL DEFAULT false,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    UNIQUE (project_id, number)
);

CREATE TABLE monitor_states (
    monitor_id       uuid PRIMARY KEY REFERENCES network_monitors ON DELETE CASCADE,
    due_at           timestamptz NOT NULL,                     -- infinity while paused
    failures         integer NOT NULL DEFAULT 0,               -- in a row
    last_check_at    timestamptz,
    last_ok          boolean,
    last_response_ms double precision
) WITH (fillfactor = 70);
CREATE INDEX monitor_states_due ON monitor_states (due_at);

CREATE TABLE checks (
    monitor_id  uuid NOT NULL,
    at          timestamptz NOT NULL,
    ok          boolean NOT NULL,
    problem     text,                                          -- the incident type that it speaks for
    message     text,
    status_code integer,
    response_ms double precision
) PARTITION BY RANGE (at);
CREATE TABLE checks_other PARTITION OF checks DEFAULT;
CREATE INDEX checks_by_monitor ON checks (monitor_id, at);

CREATE TABLE checks_hourly (
    monitor_id  uuid NOT NULL,
    at          timestamptz NOT NULL,
    total       integer NOT NULL,
    ok          integer NOT NULL,
    response_ms double precision,                              -- mean of the good ones
    PRIMARY KEY (monitor_id, at)
) PARTITION BY RANGE (at);
CREATE TABLE checks_hourly_other PARTITION OF checks_hourly DEFAULT;

-- How far the raw rows of a table have been gathered into hours.
CREATE TABLE gathered (
    name text PRIMARY KEY,
    upto timestamptz NOT NULL
);

----------------------------------------------------------------------------------------------------------- incidents

CREATE TABLE incidents (
    id               uuid PRIMARY KEY,
    project_id       uuid NOT NULL,
    resource_type    text NOT NULL CHECK (resource_type IN ('Server', 'NetworkMonitor')),
    resource_id      uuid NOT NULL,
    resource_name    text NOT NULL,                            -- as it was when the incident began
    resource_url     text NOT NULL,
    type             text NOT NULL,
    message          text NOT NULL,
    request          text,
    request_headers  jsonb,
    response         text,
    response_headers jsonb,
    snoozed_at       timestamptz,
    snooze_until     timestamptz,
    created_at       timestamptz NOT NULL,
    closed_at        timestamptz,
    resolved_by      text,
    updated_at       timestamptz NOT NULL
) PARTITION BY RANGE (id);
CREATE TABLE incidents_other PARTITION OF incidents DEFAULT;
CREATE INDEX incidents_by_project ON incidents (project_id, id);
CREATE INDEX incidents_ongoing ON incidents (project_id, id) WHERE closed_at IS NULL;

-- One row for each incident that lasts. The key is what keeps one from being opened twice.
CREATE TABLE ongoing (
    resource_id uuid NOT NULL,
    type        text NOT NULL,
    incident_id uuid NOT NULL,
    project_id  uuid NOT NULL,
    told        uuid[] NOT NULL,                               -- the integrations that were told, and will be told the end
    remind_at   timestamptz,                                   -- when a snooze ends
    PRIMARY KEY (resource_id, type)
);
CREATE INDEX ongoing_to_remind ON ongoing (remind_at) WHERE remind_at IS NOT NULL;

---------------------------------------------------------------------------------------------------------- deliveries

-- The queue: what has not ended yet, and nothing else. It stays as small as the trouble is, whatever has been.
CREATE TABLE outstanding (
    id                  uuid PRIMARY KEY,
    project_id          uuid NOT NULL,
    integration_id      uuid NOT NULL,
    integration_type    text NOT NULL,
    for_people          boolean NOT NULL,
    repeatable          boolean NOT NULL,
    incident_id         uuid,                                  -- null for a test or a notice
    event               text NOT NULL CHECK (event IN ('opened', 'resolved', 'test', 'notice')),
    notice              text,
    redelivery_of       uuid,
    first_notice_failed boolean NOT NULL DEFAULT false,
    status              text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'sending')),
    due_at              timestamptz NOT NULL,
    not_before          timestamptz,                           -- what the destination asked for (Retry-After)
    behind              uuid,                                  -- waits for this delivery to end
    followed            boolean NOT NULL DEFAULT false,        -- another waits for this one
    attempt             integer NOT NULL DEFAULT 0,            -- the number of the latest try: fences late outcomes
    failures            integer NOT NULL DEFAULT 0,            -- tries that are known to have failed
    started_at          timestamptz,                           -- when the try under way began
    engine              integer,
    leased_until        timestamptz,
    attempts            jsonb NOT NULL DEFAULT '[]',           -- every try, oldest first
    created_at          timestamptz NOT NULL
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);
CREATE INDEX outstanding_pending ON outstanding (integration_id, due_at) WHERE status = 'pending' AND behind IS NULL;
CREATE INDEX outstanding_leased ON outstanding (leased_until) WHERE status = 'sending';
CREATE INDEX outstanding_by_incident ON outstanding (incident_id, integration_id);
CREATE INDEX outstanding_behind ON outstanding (behind) WHERE behind IS NOT NULL;

-- The record: what became of each delivery. Written once, dropped partition by partition.
CREATE TABLE finished (
    id               uuid PRIMARY KEY,
    project_id       uuid NOT NULL,
    integration_id   uuid NOT NULL,
    integration_type text NOT NULL,
    incident_id      uuid,
    event            text NOT NULL,
    notice           text,
    redelivery_of    uuid,
    status           text NOT NULL CHECK (status IN ('delivered', 'dead', 'suppressed')),
    reason           text,
    attempt          integer NOT NULL,
    attempts         jsonb NOT NULL,
    created_at       timestamptz NOT NULL,
    finished_at      timestamptz NOT NULL
) PARTITION BY RANGE (id);
CREATE TABLE finished_other PARTITION OF finished DEFAULT;
CREATE INDEX finished_by_integration ON finished (integration_id, id);
CREATE INDEX finished_by_incident ON finished (incident_id, id);

CREATE VIEW deliveries AS
    SELECT id, project_id, integration_id, integration_type, incident_id, event, notice, redelivery_of, status,
           NULL::text AS reason, attempt, attempts, created_at, due_at, started_at, NULL::timestamptz AS finished_at
    FROM outstanding
    UNION ALL
    SELECT id, project_id, integration_id, integration_type, incident_id, event, notice, redelivery_of, status,
           reason, attempt, attempts, created_at, NULL, NULL, finished_at
    FROM finished;

-- What all engines have counted, for /metrics (domain/tallies.py).
CREATE TABLE tallies (
    name   text NOT NULL,
    labels text[] NOT NULL,
    value  double precision NOT NULL,
    PRIMARY KEY (name, labels)
) WITH (fillfactor = 50);

-- Engines that live. Each also holds an advisory lock on its number, which its death releases.
CREATE TABLE engines (
    number    integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    seen_at   timestamptz NOT NULL DEFAULT now(),
    accepting boolean NOT NULL DEFAULT false                   -- whether deliveries may be handed to it
) WITH (fillfactor = 10);

-- migrate: rollback
