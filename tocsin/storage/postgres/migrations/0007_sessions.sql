-- sessions that can be listed and ended, links that set the operator's account up, invitations into projects
-- depends: 0002_no_way_back

-- migrate: apply

ALTER TABLE user_tokens
    ADD COLUMN id uuid NOT NULL DEFAULT new_id(),
    ADD COLUMN label text NOT NULL DEFAULT '',                 -- the program that signed in, in words
    ADD COLUMN last_seen_at timestamptz NOT NULL DEFAULT now();
CREATE UNIQUE INDEX user_tokens_by_id ON user_tokens (id);

CREATE TABLE operator_links (
    hash       bytea PRIMARY KEY,                              -- keyed hash of what the link carries
    user_id    uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    expires_at timestamptz NOT NULL
);

CREATE TABLE invitations (
    id         uuid PRIMARY KEY DEFAULT new_id(),
    project_id uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
    email      text NOT NULL,
    role       text NOT NULL CHECK (role IN ('owner', 'member', 'reader')),
    invited_by uuid REFERENCES users ON DELETE SET NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX invitations_by_address ON invitations (project_id, lower(email));

-- migrate: rollback
