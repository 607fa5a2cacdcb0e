-- addresses compared in one way, networks that people have signed in from, who made a project, and a day's mails
-- depends: 0007_sessions 0010_audit_by_who

-- migrate: apply

-- Two addresses are one where they differ by the case of A to Z alone (domain/accounts.py: same_address). That does not
-- depend on the database's locale, and no letter of another alphabet stands for one of these.
DROP INDEX users_by_email;
CREATE UNIQUE INDEX users_by_email ON users (lower(email COLLATE "C"));
DROP INDEX invitations_by_address;
CREATE UNIQUE INDEX invitations_by_address ON invitations (project_id, lower(email COLLATE "C"));

-- From where somebody has signed in before: tries from elsewhere cannot keep them out there.
CREATE TABLE known_networks (
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    hash    bytea NOT NULL,                                    -- keyed: no address can be read from it
    seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, hash)
);

-- Whoever made a project for themselves; null: whoever runs the installation. Of those that are there, the projects
-- count whose owner got in with a password without having shown that the address is theirs.
ALTER TABLE projects ADD COLUMN made_by uuid REFERENCES users;
UPDATE projects p SET made_by = p.owner_id FROM users u
WHERE u.id = p.owner_id AND u.email_verified_at IS NULL AND u.password_hash IS NOT NULL AND NOT u.operator;

-- How many mails of a kind went out on a day (UTC) for a project or to an address. Kept for two days.
CREATE TABLE mail_days (
    subject bytea NOT NULL,                                    -- a hash: no address can be read from it
    day     date NOT NULL,
    sent    integer NOT NULL,
    PRIMARY KEY (subject, day)
) WITH (fillfactor = 70);
CREATE INDEX mail_days_old ON mail_days (day);

-- migrate: rollback
