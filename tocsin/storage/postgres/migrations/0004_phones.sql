-- text messages: codes that verify numbers, what was sent to which number, and what providers report later
-- depends: 0002_no_way_back

-- migrate: apply

-- One code at a time for a project and a number.
CREATE TABLE phone_codes (
    project_id uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
    number     text NOT NULL,
    hash       bytea NOT NULL,                                 -- keyed: neither code nor number can be read from it
    expires_at timestamptz NOT NULL,
    tries_left integer NOT NULL,
    PRIMARY KEY (project_id, number)
);

CREATE TABLE phone_codes_sent (
    project_id uuid NOT NULL,
    number     text NOT NULL,
    at         timestamptz NOT NULL
);
CREATE INDEX phone_codes_sent_by_number ON phone_codes_sent (number, at);
CREATE INDEX phone_codes_sent_by_project ON phone_codes_sent (project_id, at);
CREATE INDEX phone_codes_sent_old ON phone_codes_sent (at);

-- One row for each delivery by SMS that was asked for, sent or not.
CREATE TABLE texts (
    delivery_id uuid PRIMARY KEY,
    project_id  uuid NOT NULL,
    number      text NOT NULL,
    incident_id uuid,                                          -- null: a test, a notice
    at          timestamptz NOT NULL,
    sent        boolean NOT NULL,                              -- it was, or is being, sent by itself
    summary_id  uuid                                           -- the delivery that tells of it together with others
);
CREATE INDEX texts_by_number ON texts (number, at);
CREATE INDEX texts_by_project ON texts (project_id, at);
CREATE INDEX texts_of_summary ON texts (summary_id) WHERE summary_id IS NOT NULL;
CREATE INDEX texts_old ON texts (at);

-- Deliveries that tell of several incidents at once.
CREATE TABLE text_summaries (
    delivery_id uuid PRIMARY KEY,
    project_id  uuid NOT NULL,
    number      text NOT NULL,
    due_at      timestamptz NOT NULL,
    closed_at   timestamptz                                    -- when it began to be sent: what comes later is for the next
);
CREATE INDEX text_summaries_by_number ON text_summaries (number, project_id, due_at);

-- That people were told of a limit, so that they are told once.
CREATE TABLE text_limits_told (
    subject text PRIMARY KEY,
    at      timestamptz NOT NULL
);

-- What a provider calls a message, and what it reported, whichever of the two is known first.
CREATE TABLE text_reports (
    id          text PRIMARY KEY,                              -- the provider's
    delivery_id uuid NOT NULL,
    said        text,
    error       text,
    at          timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX text_reports_old ON text_reports (at);

-- migrate: rollback
