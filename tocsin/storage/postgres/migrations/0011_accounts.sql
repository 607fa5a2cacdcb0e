-- addresses compared in one way, networks that people have signed in from, who made a project, and a day's mails
-- depends: 0007_sessions 0010_audit_by_who

-- migrate: apply

-- Two addresses are one where they differ by the case of A to Z alone (domain/accounts.py: same_address). That does not
-- depend on the database's locale, and no letter of another alphabet stands for one of these. Until now it did depend on
-- it: under a Turkish one, INFO@example.com and info@example.com were two. Whose account is whose, only people can say.
DO $$
DECLARE
    alike text;
BEGIN
    SELECT string_agg(pair, '; ' ORDER BY pair) INTO alike FROM (
        SELECT string_agg(format('%s (id %s)', email, id), ' and ' ORDER BY created_at, id) AS pair
        FROM users GROUP BY lower(email COLLATE "C") HAVING count(*) > 1 LIMIT 10
    ) found;
    IF alike IS NOT NULL THEN
        RAISE EXCEPTION '%', 'these accounts have one address but for the case of its letters: ' || alike
            || '. Give all but one of each another address (UPDATE users SET email = ''NEW'' WHERE id = ''ID'') '
            || 'and start again; nothing was changed';
    END IF;
END
$$;
-- Beside the old ones, which go last: whoever signs in is not kept waiting while these are made.
CREATE UNIQUE INDEX users_by_address ON users (lower(email COLLATE "C"));
-- Of invitations that are one by now, the newest counts.
DELETE FROM invitations i USING invitations newer
WHERE newer.project_id = i.project_id AND lower(newer.email COLLATE "C") = lower(i.email COLLATE "C")
  AND (newer.created_at, newer.id) > (i.created_at, i.id);
CREATE UNIQUE INDEX invitations_to_address ON invitations (project_id, lower(email COLLATE "C"));

-- From where somebody has signed in before: tries from elsewhere cannot keep them out there.
CREATE TABLE known_networks (
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    hash    bytea NOT NULL,                                    -- keyed: no address can be read from it
    seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, hash)
);

-- Whoever made a project for themselves; null: whoever runs the installation, or nobody knows any more. Of those that are
-- there, the record of changes tells.
ALTER TABLE projects ADD COLUMN made_by uuid REFERENCES users;
UPDATE projects p SET made_by = u.id FROM audit a JOIN users u ON u.email = a.who
WHERE a.project_id = p.id AND a.action = 'made project' AND NOT u.operator;

-- How many mails of a kind went out on a day (UTC) for a project or to an address. Kept for two days.
CREATE TABLE mail_days (
    subject bytea NOT NULL,                                    -- a hash: no address can be read from it
    day     date NOT NULL,
    sent    integer NOT NULL,
    PRIMARY KEY (subject, day)
) WITH (fillfactor = 70);
CREATE INDEX mail_days_old ON mail_days (day);

DROP INDEX users_by_email;
DROP INDEX invitations_by_address;

-- migrate: rollback
